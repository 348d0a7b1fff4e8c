package sftp

import (
	"io"
	"sync"
)

// output sends replies. They gather in one buffer while another is on its way,
// encrypted and written by a goroutine of its own, so that the session goes on
// with the next request meanwhile. A client that does not take its replies
// stops the session when both are full.
//
// All methods but err are the session's.
type output struct {
	dst   io.Writer
	cur   []byte      // replies not handed over
	full  chan []byte // to the writer, which takes it when it has nothing to do
	empty chan []byte // back, before it takes the next
	ended chan struct{}

	mu     sync.Mutex // a leaf
	failed error
}

// newOutput starts the writer; close ends it. broken is called once, by the
// writer, when dst does not take a write.
func newOutput(dst io.Writer, broken func(error)) *output {
	o := &output{
		dst:   dst,
		full:  make(chan []byte),
		empty: make(chan []byte, 1),
		ended: make(chan struct{}),
	}
	o.empty <- nil
	go o.run(broken)
	return o
}

func (o *output) run(broken func(error)) {
	defer close(o.ended)
	for b := range o.full {
		if o.err() == nil {
			if _, err := o.dst.Write(b); err != nil {
				o.mu.Lock()
				o.failed = err
				o.mu.Unlock()
				broken(err)
			}
		}
		o.empty <- b[:0]
	}
}

// err is why replies do not arrive any more.
func (o *output) err() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.failed
}

// room makes sure that a reply of n bytes fits into cur.
func (o *output) room(n int) {
	if len(o.cur)+n > replyMax {
		o.flush()
	}
	if cap(o.cur)-len(o.cur) >= n {
		return
	}
	size := replyMax
	if len(o.cur)+n <= replyBatch/8 {
		size = replyBatch / 8
	}
	grown := make([]byte, len(o.cur), size)
	copy(grown, o.cur)
	o.cur = grown
}

// flush hands over what there is, when the writer has done with what it has.
func (o *output) flush() {
	if len(o.cur) > 0 {
		o.full <- o.cur
		o.cur = <-o.empty
	}
}

// relieve is flush when there is enough for a write and the writer is idle.
func (o *output) relieve() {
	if len(o.cur) < replyBatch {
		return
	}
	select {
	case o.full <- o.cur:
		o.cur = <-o.empty
	default:
	}
}

// close sends what is left and waits for the writer's end.
func (o *output) close() {
	o.flush()
	close(o.full)
	<-o.ended
}
