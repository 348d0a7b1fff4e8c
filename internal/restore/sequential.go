package restore

// sequential writes a stream into an Output, in pieces that can go past the page
// cache.
type sequential struct {
	out    *Output
	buffer *[requestBytes]byte
	have   int   // bytes in it
	at     int64 // where they belong
}

func newSequential(out *Output) *sequential {
	return &sequential{out: out, buffer: buffers.Get().(*[requestBytes]byte)}
}

func (s *sequential) Write(p []byte) (int, error) {
	whole := len(p)
	for len(p) > 0 {
		n := copy(s.buffer[s.have:], p)
		s.have, p = s.have+n, p[n:]
		if s.have < len(s.buffer) {
			break
		}
		if err := s.flush(); err != nil {
			return whole - len(p), err
		}
	}
	return whole, nil
}

// flush writes what there is; what is written after a piece that was not full is
// not aligned any more.
func (s *sequential) flush() error {
	_, err := s.out.WriteAt(s.buffer[:s.have], s.at)
	s.at += int64(s.have)
	s.have = 0
	return err
}

// end writes the rest, and gives the buffer back.
func (s *sequential) end() error {
	defer buffers.Put(s.buffer)
	return s.flush()
}
