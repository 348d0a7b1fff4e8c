package maintenance

import "errors"

// What callers can tell apart with errors.Is; the message around it says more.
var (
	// ErrBusy is work of a kind that is being done already.
	ErrBusy = errors.New("is running already")
	// ErrBadRequest is a request that could never be served.
	ErrBadRequest = errors.New("bad request")
	// ErrStrictChains is a deletion that the rule strict-chains forbids.
	ErrStrictChains = errors.New("strict-chains forbids it")
	// ErrDamaged is an incremental backup on an image that cannot be read whole.
	ErrDamaged = errors.New("the parent image is damaged")
	// ErrChainLimit is a backup that would make a chain longer than the policy allows.
	ErrChainLimit = errors.New("chain limit reached")
)
