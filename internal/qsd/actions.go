package qsd

import "context"

// Granularity is the bytes one bit of our dirty bitmaps stands for: QEMU's
// cluster for a target without one, and our block.
const Granularity = 64 << 10

// Action is one step of a transaction.
type Action struct {
	Type string `json:"type"`
	Data any    `json:"data"`
}

// Backup is a blockdev-backup job.
type Backup struct {
	Job           string `json:"job-id"`
	Device        string `json:"device"`
	Target        string `json:"target"`
	Sync          string `json:"sync"`
	Bitmap        string `json:"bitmap,omitempty"`
	BitmapMode    string `json:"bitmap-mode,omitempty"`
	Speed         int64  `json:"speed,omitempty"` // bytes per second
	OnTargetError string `json:"on-target-error,omitempty"`
	AutoDismiss   bool   `json:"auto-dismiss"` // leave false: Wait dismisses
	Perf          *Perf  `json:"x-perf,omitempty"`
}

// Perf tunes how a job copies.
type Perf struct {
	MaxChunk int64 `json:"max-chunk"` // most bytes of one copy, at least Granularity; 0 = QEMU's 1 MiB
}

// Action makes the job a step of a transaction.
func (b Backup) Action() Action { return Action{"blockdev-backup", b} }

type bitmapRef struct {
	Node string `json:"node"`
	Name string `json:"name"`
}

// AddBitmap starts a dirty bitmap. Only qcow2 nodes hold persistent ones.
func AddBitmap(node, name string, persistent bool) Action {
	return Action{"block-dirty-bitmap-add", struct {
		bitmapRef
		Granularity int  `json:"granularity"`
		Persistent  bool `json:"persistent"`
	}{bitmapRef{node, name}, Granularity, persistent}}
}

// DisableBitmap stops a bitmap's recording.
func DisableBitmap(node, name string) Action {
	return Action{"block-dirty-bitmap-disable", bitmapRef{node, name}}
}

// EnableBitmap lets a bitmap record again.
func EnableBitmap(node, name string) Action {
	return Action{"block-dirty-bitmap-enable", bitmapRef{node, name}}
}

// RemoveBitmap drops a bitmap.
func RemoveBitmap(node, name string) Action {
	return Action{"block-dirty-bitmap-remove", bitmapRef{node, name}}
}

// MergeBitmap adds the bits of source to target, on one node.
func MergeBitmap(node, target, source string) Action {
	return Action{"block-dirty-bitmap-merge", struct {
		Node    string   `json:"node"`
		Target  string   `json:"target"`
		Bitmaps []string `json:"bitmaps"`
	}{node, target, []string{source}}}
}

// Transaction does all actions at one instant, or none of them.
func (d *Daemon) Transaction(ctx context.Context, actions ...Action) error {
	return d.QMP.Execute(ctx, "transaction", map[string]any{"actions": actions}, nil)
}

// Grouped is Transaction with completion-mode grouped: jobs started by it
// succeed or fail together. Bitmaps cannot be added in it.
func (d *Daemon) Grouped(ctx context.Context, actions ...Action) error {
	return d.QMP.Execute(ctx, "transaction", map[string]any{
		"actions": actions, "properties": map[string]string{"completion-mode": "grouped"},
	}, nil)
}

// Bitmap is the state of a dirty bitmap.
type Bitmap struct {
	Name         string `json:"name"`
	Dirty        int64  `json:"count"` // bytes
	Recording    bool   `json:"recording"`
	Persistent   bool   `json:"persistent"`
	Inconsistent bool   `json:"inconsistent"`
}

// Bitmaps lists a node's dirty bitmaps by name.
func (d *Daemon) Bitmaps(ctx context.Context, node string) (map[string]Bitmap, error) {
	var nodes []struct {
		Name    string   `json:"node-name"`
		Bitmaps []Bitmap `json:"dirty-bitmaps"`
	}
	if err := d.QMP.Execute(ctx, "query-named-block-nodes", map[string]any{"flat": true}, &nodes); err != nil {
		return nil, err
	}
	found := map[string]Bitmap{}
	for _, n := range nodes {
		if n.Name != node {
			continue
		}
		for _, b := range n.Bitmaps {
			found[b.Name] = b
		}
	}
	return found, nil
}
