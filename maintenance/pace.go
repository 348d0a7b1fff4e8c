package maintenance

import (
	"context"
	"time"

	"golang.org/x/time/rate"
)

// limiter lets bytes through at a rate; nil: as they come.
func limiter(bytesPerSecond int64) *rate.Limiter {
	if bytesPerSecond == 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(bytesPerSecond), int(min(maxBurst, max(minBurst, bytesPerSecond/4))))
}

// yield makes background work hold back while clients store data: after every
// piece of work it rests twice as long as the piece took, if anything was put
// meanwhile. So it takes a third of the time at most.
type yield struct {
	e    *Engine
	puts int64
	last time.Time
}

func (e *Engine) newYield() *yield { return &yield{e: e, puts: e.puts(), last: e.now()} }

// puts counts the blocks clients have brought.
func (e *Engine) puts() int64 {
	p := e.blocks.Stats().Put
	return p.Zero + p.Hint + p.Recent + p.Index + p.New
}

func (y *yield) pause(ctx context.Context) {
	puts := y.e.puts()
	if rest := min(maxPause, 2*y.e.now().Sub(y.last)); puts != y.puts && rest > 0 {
		select {
		case <-ctx.Done():
		case <-y.e.after(rest):
		}
	}
	y.puts, y.last = puts, y.e.now()
}
