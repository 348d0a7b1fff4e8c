package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/strongroom-backup/strongroom/internal/testdisk"
)

// restores brings both points back in two ways and compares every byte.
func (d *demo) restores(ctx context.Context) error {
	ways := []struct {
		name string
		run  func(ctx context.Context, point, to string) error
	}{
		{"qemu-img over NBD", func(ctx context.Context, point, to string) error {
			return tool(ctx, "qemu-img", "convert", "-f", "raw", "-O", "raw", d.srv.UnixURI(export(point)), to)
		}},
		{"strongroom restore", func(ctx context.Context, point, to string) error {
			_, err := d.srv.Run(ctx, "restore", export(point), "--output", to)
			return err
		}},
	}
	for i, name := range []string{"full", "incremental"} {
		for _, w := range ways {
			if err := d.restore(ctx, "restore, "+name+", "+w.name, d.points[i], w.run); err != nil {
				return err
			}
		}
	}
	return nil
}

func export(point string) string { return vm + "/" + disk + "@" + point }

func (d *demo) restore(ctx context.Context, name string, p point, run func(context.Context, string, string) error) (err error) {
	defer step(name)(&err)
	to := d.path("restored.raw")
	began := time.Now()
	if err := run(ctx, p.id, to); err != nil {
		return err
	}
	d.rows = append(d.rows, row{name: name, took: time.Since(began)})
	if err := testdisk.Equal(p.was, to); err != nil {
		return fmt.Errorf("the restore is not what was backed up: %w", err)
	}
	note("every byte is what it was when the backup began")
	return os.Remove(to)
}
