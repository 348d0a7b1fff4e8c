package files

// aheadBudget bounds what is read ahead for all readers together, in pieces.
type aheadBudget struct{ tokens chan struct{} }

func newAheadBudget(n int) *aheadBudget { return &aheadBudget{tokens: make(chan struct{}, n)} }

// inUse is how many pieces are out.
func (b *aheadBudget) inUse() int { return len(b.tokens) }
