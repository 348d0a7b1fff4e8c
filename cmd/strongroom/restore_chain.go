package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"

	"github.com/strongroom-backup/strongroom/internal/restore"
	"github.com/strongroom-backup/strongroom/server/api"
)

const (
	// chainMax is how far a chain is followed: ten times what a policy makes.
	chainMax = 1000
	// chainTries is how often it is followed anew when a point of it is removed
	// meanwhile.
	chainTries = 3
)

// findChains finds the chains of all disks.
func (j *restoreJob) findChains(ctx context.Context) error {
	j.chains = map[string][]restore.Layer{}
	for _, d := range j.disks {
		layers, err := j.findChain(ctx, d.Disk)
		if err != nil {
			return err
		}
		j.chains[d.Disk] = layers
	}
	return nil
}

// findChain is the line of points that leads to the disk's image, the full one
// first. Points in the trash are passed over.
func (j *restoreJob) findChain(ctx context.Context, disk string) (layers []restore.Layer, err error) {
	for range chainTries {
		layers, err = j.walkChain(ctx, disk)
		var refusal *api.Error
		if !errors.As(err, &refusal) || refusal.Status != http.StatusNotFound {
			break
		}
		if j.point, err = j.client.Point(ctx, j.point.Point); err != nil { // a parent has gone: another is now
			return nil, err
		}
	}
	return layers, err
}

func (j *restoreJob) walkChain(ctx context.Context, disk string) (layers []restore.Layer, err error) {
	for p := j.point; len(layers) < chainMax; {
		i := slices.IndexFunc(p.Images, func(i api.Image) bool { return i.Disk == disk })
		if i < 0 {
			return nil, fmt.Errorf("point %s, of disk %s's chain, has no such disk", p.Point, disk)
		}
		if p.Trashed.IsZero() || len(layers) == 0 {
			layers = append(layers, restore.Layer{Point: p.Point, Size: p.Images[i].Size})
		}
		if p.Images[i].Parent == "" {
			slices.Reverse(layers)
			return layers, nil
		}
		if p, err = j.client.Point(ctx, p.Images[i].Parent); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("the chain of disk %s has more than %d points", disk, chainMax)
}

// chain is the restore of a disk's chain.
func (j *restoreJob) chain(disk string) restore.Chain {
	c := restore.Chain{Dir: j.dir, Layers: slices.Clone(j.chains[disk]), Force: j.force, Verify: j.verify, Events: j.events(disk)}
	if len(j.disks) > 1 {
		c.Dir = filepath.Join(j.dir, disk)
	}
	for k := range c.Layers {
		c.Layers[k].Target = j.target(disk, c.Layers[k].Point)
	}
	return c
}

func (j *restoreJob) restoreChain(ctx context.Context, image api.Image) (restoredDisk, error) {
	c := j.chain(image.Disk)
	r, err := c.Run(ctx)
	if err != nil {
		return restoredDisk{}, err
	}
	m := restore.ManifestDisk{Disk: image.Disk, Size: image.Size, Format: restore.QCOW2, ManifestHash: restore.NewManifestHash(r.Hash)}
	for k, l := range c.Layers {
		m.Chain = append(m.Chain, restore.NewManifestLayer(l.Point, j.nameOf(r.Files[k]), l.Size, r.Layers[k]))
	}
	j.record.Disks = append(j.record.Disks, m)
	return restoredDisk{
		Disk: image.Disk, Size: image.Size, Data: r.Data, Format: string(restore.QCOW2), Root: r.Hash.Root.String(),
		File: r.Files[len(r.Files)-1], Chain: r.Files,
	}, nil
}
