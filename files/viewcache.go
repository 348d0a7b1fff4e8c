package files

type viewCache struct{ max int64 }

func newViewCache(max int64) *viewCache { return &viewCache{max: max} }

func (c *viewCache) bytes() int64 { return 0 }
