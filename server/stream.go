package server

import (
	"bufio"
	"encoding/json"
	"net/http"
	"time"
)

// arrayWriter sends a JSON array element by element, so that a listing takes no
// memory that grows with it.
type arrayWriter struct {
	w     http.ResponseWriter
	buf   *bufio.Writer
	count int
	err   error
}

func newArrayWriter(w http.ResponseWriter) *arrayWriter {
	return &arrayWriter{w: w, buf: bufio.NewWriterSize(w, streamBuffer)}
}

// add sends an element and reports whether the client still takes more. Before
// the first one nothing has been sent, and an error can be answered instead.
func (a *arrayWriter) add(v any) bool {
	if a.err != nil {
		return false
	}
	text, err := json.Marshal(v)
	if err != nil {
		a.err = err
		return false
	}
	mark := byte(',')
	if a.count == 0 {
		mark = '['
		jsonHeader(a.w.Header())
	}
	a.buf.WriteByte(mark)
	_, a.err = a.buf.Write(text)
	if a.count++; a.count%streamDeadlineEvery == 0 {
		limitWrite(a.w)
	}
	return a.err == nil
}

// end completes the array. After an error in the middle the connection is
// broken off, so that nobody takes what was sent for all there is.
func (a *arrayWriter) end(err error) {
	if err != nil || a.err != nil {
		panic(http.ErrAbortHandler)
	}
	if a.count == 0 {
		jsonHeader(a.w.Header())
		a.buf.WriteByte('[')
	}
	a.buf.WriteString("]\n")
	a.buf.Flush()
}

func jsonHeader(h http.Header) {
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
}

// limitWrite bounds how long an answer may take to be read. It is not set for
// the server as a whole because a commit may work long before it answers.
func limitWrite(w http.ResponseWriter) {
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(httpWriteTimeout)) // without it the client's own time limit holds
}
