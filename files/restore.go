package files

import (
	"errors"

	"github.com/strongroom-backup/strongroom/sftp"
)

var errUnfinished = errors.New("unfinished")

// restore is the tree of the points.
type restore struct {
	s   *Service
	vms matcher
}

func (r *restore) stat(string) (sftp.Attr, error)                 { return sftp.Attr{}, errUnfinished }
func (r *restore) open(string) (sftp.File, error)                 { return nil, errUnfinished }
func (r *restore) list(string, string, int) ([]sftp.Entry, error) { return nil, errUnfinished }
