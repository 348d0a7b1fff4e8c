package main

import (
	"os"
	"runtime/debug"

	"github.com/strongroom-backup/strongroom/server"
)

const (
	// gcPercent lets the heap grow to five times what is alive before it is
	// collected. What is alive is small, and SSH leaves every packet behind: by
	// default a third of an upload's CPU time went into collecting.
	gcPercent = 400
	// gcRoom is what the heap may have beside the configured buffers and caches
	// before it is collected more often than that.
	gcRoom = 384 << 20
)

// tuneMemory sets up Go's garbage collector, unless the environment does.
func tuneMemory(c *server.Config) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	debug.SetGCPercent(gcPercent)
	limit := int64(gcRoom)
	for _, size := range []int64{
		int64(c.NBD.BufferMemory), int64(c.Store.IndexCache), int64(c.Store.CatalogCache), int64(c.Store.TOCCache), int64(c.Store.ReadCache),
	} {
		limit += size
	}
	debug.SetMemoryLimit(limit)
}
