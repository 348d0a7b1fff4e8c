package nbd

import (
	"errors"
	"io"
	"time"
)

// execute carries out a valid request and sends its reply. It runs on a
// goroutine of its own.
func (r *request) execute() {
	err := r.perform()
	if err != nil {
		r.failed(err)
	}
	r.c.srv.counters.done(r.cmd, r.length, r.reply.errno, time.Since(r.start))
	r.c.work.Done()
	r.c.out.send(r)
}

// perform talks to the device. When it returns nil the reply is made.
func (r *request) perform() error {
	dev := r.c.at.dev
	off, n := int64(r.offset), int64(r.length)
	switch r.cmd {
	case cmdRead:
		return r.read(dev)
	case cmdBlockStatus:
		return r.blockStatus(dev)
	case cmdWrite:
		if n > 0 {
			if _, err := dev.WriteAt(r.buf.bytes[:n], off); err != nil {
				return err
			}
		}
	case cmdTrim, cmdWriteZeroes:
		if n > 0 {
			if err := dev.Zero(off, n); err != nil {
				return err
			}
		}
	}
	if r.mustFlush() {
		if err := r.c.at.export.flushes.flush(dev); err != nil {
			return err
		}
	}
	r.reply.simple(r.cookie, 0, nil)
	return nil
}

// mustFlush says whether the reply promises durability. Clients put FUA on
// commands that write nothing; those may ignore it.
func (r *request) mustFlush() bool {
	if r.c.at.info.ReadOnly {
		return false
	}
	return r.cmd == cmdFlush || r.writes() && r.flags&cfFUA != 0
}

// failed makes an error reply from what the device said.
func (r *request) failed(err error) {
	e := r.wireErrno(err)
	var at *uint64
	var ra *readError
	if errors.As(err, &ra) {
		at = &ra.offset
	}
	r.reply.reset()
	r.fail(e, err.Error(), at)
	r.c.srv.events.requestError(RequestEvent{
		Peer: r.c.peer, Export: r.c.at.info.Name, Command: commandNames[r.cmd],
		Offset: r.offset, Length: r.length, Errno: uint32(e), Err: err,
	})
}

// wireErrno keeps a device from sending a value that means something else to
// the client: ENOTSUP belongs to fast zeroes only.
func (r *request) wireErrno(err error) errno {
	e := errnoOf(err)
	if e == enotsup && r.flags&cfFastZero == 0 {
		return eio
	}
	return e
}

// fail makes an error reply in the form the client understands.
func (r *request) fail(e errno, text string, at *uint64) {
	if r.c.structured {
		r.reply.fail(r.cookie, e, text, at)
		return
	}
	r.reply.simple(r.cookie, e, nil)
}

// readError says where in the export a READ failed.
type readError struct {
	offset uint64
	err    error
}

func (e *readError) Error() string { return e.err.Error() }
func (e *readError) Unwrap() error { return e.err }

// segment is a stretch of a READ: data or a hole.
type segment struct {
	length uint32
	hole   bool
}

// read gathers all data before any of the reply is sent, so that an error
// after a good header, which would cost the connection, cannot happen.
func (r *request) read(dev Device) error {
	if r.length == 0 {
		if r.c.structured {
			r.reply.none(r.cookie)
		} else {
			r.reply.simple(r.cookie, 0, nil)
		}
		return nil
	}
	if !r.probe(dev) {
		r.segs = append(r.segs[:0], segment{length: r.length})
	}
	at := uint32(0)
	for _, s := range r.segs {
		if !s.hole {
			if err := r.fetch(dev, at, s.length); err != nil {
				return err
			}
		}
		at += s.length
	}
	r.readReply()
	return nil
}

// fetch reads a segment into its place in the buffer.
func (r *request) fetch(dev Device, at, length uint32) error {
	if r.buf == nil {
		r.buf = r.c.srv.arena.get(int(r.length))
	}
	off := r.offset + uint64(at)
	n, err := dev.ReadAt(r.buf.bytes[at:at+length], int64(off))
	if n == int(length) {
		return nil // io.ReaderAt may say EOF with the last byte
	}
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return &readError{off + uint64(max(n, 0)), err}
}

func (r *request) readReply() {
	if !r.c.structured {
		r.reply.simple(r.cookie, 0, r.buf.bytes[:r.length])
		return
	}
	at := uint32(0)
	for i, s := range r.segs {
		flags := uint16(0)
		if i == len(r.segs)-1 {
			flags = chunkDone
		}
		off := r.offset + uint64(at)
		if s.hole {
			r.reply.hole(r.cookie, off, s.length, flags)
		} else {
			r.reply.data(r.cookie, off, r.buf.bytes[at:at+s.length], flags)
		}
		at += s.length
	}
}

// probe asks the device for holes when telling them would pay, and fills
// r.segs. It reports false when the whole is to be read.
func (r *request) probe(dev Device) bool {
	if !r.c.structured || r.flags&cfDF != 0 || r.length < holeProbe {
		return false
	}
	r.segs = r.segs[:0]
	r.left = int64(r.length)
	if dev.Extents(int64(r.offset), r.left, r.onExtent) != nil {
		return false // the read itself will say what is wrong
	}
	r.addSegment(uint32(r.left), false)
	return true
}

// takeExtent is the callback of Device.Extents; it reports false when no more
// is wanted.
func (r *request) takeExtent(length int64, zero bool) bool {
	length = max(0, min(length, r.left))
	r.left -= length
	if r.cmd == cmdRead {
		r.addSegment(uint32(length), zero && length >= holeMin)
		return r.left > 0 && len(r.segs) < maxSegments
	}
	flags := uint32(0)
	if zero {
		// A hole promises nothing about space, while a clear HOLE bit would.
		flags = stateHole | stateZero
	}
	return r.addStatus(length, flags) && r.left > 0
}

func (r *request) addSegment(n uint32, hole bool) {
	if n == 0 {
		return
	}
	if k := len(r.segs); k > 0 && r.segs[k-1].hole == hole {
		r.segs[k-1].length += n
		return
	}
	r.segs = append(r.segs, segment{n, hole})
}
