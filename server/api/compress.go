package api

// CompressRequest starts the compression of what was stored without, for the
// sake of the clients' speed.
type CompressRequest struct{}

// CompressResult is what compressing later has done.
type CompressResult struct {
	Packs       int64   `json:"packs"`        // written anew
	Skipped     int64   `json:"skipped"`      // left alone: something in them is damaged
	BeforeBytes int64   `json:"before_bytes"` // of their files
	AfterBytes  int64   `json:"after_bytes"`
	Seconds     float64 `json:"seconds"`
}

// CompressStatus is where compressing later stands.
type CompressStatus struct {
	Running *Job `json:"running,omitempty"`
	Last    *Job `json:"last,omitempty"`
	// WaitingBytes are stored and not compressed yet; what is in packs that are
	// still being filled waits until they are full.
	WaitingBytes int64 `json:"waiting_bytes"`
}
