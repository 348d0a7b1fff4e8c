package nbd_test

import (
	"context"

	"github.com/strongroom-backup/strongroom/nbd"
	"github.com/strongroom-backup/strongroom/nbd/nbdtest"
)

// bigExports has one export "big" made of a given device.
type bigExports struct {
	*nbdtest.Exports
	nbd.Device
	dev *rangesDevice
}

func (x *bigExports) Stat(context.Context, string) (nbd.Info, int64, error) {
	return nbd.Info{Name: "big"}, x.dev.size, nil
}

func (x *bigExports) Open(context.Context, string) (nbd.Device, nbd.Info, error) {
	return x.dev, nbd.Info{Name: "big"}, nil
}
