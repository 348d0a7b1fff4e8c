package files

import (
	"errors"
	"math"

	"github.com/strongroom-backup/strongroom/dedup"
	"github.com/strongroom-backup/strongroom/sftp"
	"github.com/strongroom-backup/strongroom/tier"
)

// unknownSpace is what a medium that cannot tell its space is said to have.
const unknownSpace = math.MaxInt64 / 2

// space is what statfs tells of a place: the disk's, and what is left of a quota.
func (s *Service) space(p place, readOnly bool) (sftp.FSInfo, error) {
	u, err := s.usage()
	if err != nil {
		return sftp.FSInfo{}, err
	}
	info := sftp.FSInfo{BlockSize: dedup.BlockSize, Total: u.Total, Free: u.Free, Avail: u.Free, NameMax: maxComponent,
		ReadOnly: readOnly || p.restore || p.root}
	if p.folder == nil {
		return info, nil
	}
	p.folder.mu.Lock()
	info.Files = maxFiles
	info.FilesFree = maxFiles - uint64(len(p.folder.names))
	p.folder.mu.Unlock()
	if quota, left, ok := p.folder.acct.left(); ok {
		info.Total = min(info.Total, uint64(quota))
		info.Free = min(info.Free, uint64(left))
		info.Avail = info.Free
	}
	return info, nil
}

// usage is the space backups may use.
func (s *Service) usage() (tier.Usage, error) {
	if s.o.Usage == nil {
		return tier.Usage{Total: unknownSpace, Free: unknownSpace}, nil
	}
	u, err := s.o.Usage()
	if errors.Is(err, tier.ErrUsageUnknown) {
		return tier.Usage{Total: unknownSpace, Free: unknownSpace}, nil
	}
	u.Free -= min(u.Free, s.o.Reserve)
	return u, err
}
