package files

import (
	"time"

	"github.com/strongroom-backup/strongroom/volume"
)

// lost stands for the content of a file that a restart of the host took.
type lost struct{ why error }

func (l lost) ReadAt([]byte, int64) (int, error)     { return 0, l.why }
func (l lost) WriteAt([]byte, int64) (int, error)    { return 0, l.why }
func (l lost) Truncate(int64) error                  { return l.why }
func (l lost) SetAttributes(time.Time, uint32) error { return l.why }
func (l lost) SetState(volume.FileState) error       { return l.why }
func (l lost) Flush() error                          { return l.why }
func (l lost) Close() error                          { return nil }
