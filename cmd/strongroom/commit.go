package main

import (
	"context"
	"time"

	"github.com/strongroom-backup/strongroom/server/api"
)

// commitBackup commits and shows on a terminal how far it is: making images of
// compressed files takes a while.
func commitBackup(ctx context.Context, e *env, client *api.Client, session string) (r api.Receipt, err error) {
	if !isTerminal(e.stderr) {
		return client.Commit(ctx, session)
	}
	view := newJobBar(e.stderr)
	defer view.clear()
	done := make(chan struct{})
	go func() {
		defer close(done)
		r, err = client.Commit(ctx, session)
	}()
	for {
		select {
		case <-done:
			return r, err
		case <-time.After(followShown):
		}
		if b, err := client.Backup(ctx, session); err == nil && b.Importing != nil {
			view.show(api.Job{Kind: "images", Done: b.Importing.Done, Total: b.Importing.Total, Unit: "bytes"})
		}
	}
}
