package maintenance

import (
	"context"
	"errors"
	"time"
)

// CompressOptions overrule the configuration for one run; zero values do not.
type CompressOptions struct {
	Trigger Trigger // OnRequest when empty
	Rate    int64   // bytes written per second
}

// CompressResult is what compressing later has done.
type CompressResult struct {
	Packs         int64 // written anew
	Skipped       int64 // left alone: something in them is damaged
	Before, After int64 // bytes of their files
	Took          time.Duration
}

// Compress compresses what was stored without compressing it, in all sealed
// packs. ErrBusy while another is running.
func (e *Engine) Compress(ctx context.Context, o CompressOptions) (CompressResult, error) {
	return CompressResult{}, errors.New("unfinished")
}
