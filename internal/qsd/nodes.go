package qsd

import "context"

// AddDisk opens an image file of the given format (raw, qcow2) as node and
// exports it, writable, under the node's name on d.Socket.
func (d *Daemon) AddDisk(ctx context.Context, node, file, format string) error {
	err := d.QMP.Execute(ctx, "blockdev-add", map[string]any{
		"driver": format, "node-name": node,
		"discard": "unmap",
		"file":    map[string]any{"driver": "file", "filename": file, "discard": "unmap"},
	}, nil)
	if err != nil {
		return err
	}
	return d.exportDisk(ctx, node)
}

func (d *Daemon) exportDisk(ctx context.Context, node string) error {
	return d.QMP.Execute(ctx, "block-export-add", map[string]any{
		"type": "nbd", "id": "export-" + node, "node-name": node, "name": node, "writable": true,
	}, nil)
}

// ResizeDisk gives a disk a new size in bytes. Bitmaps stay. The export is made
// anew, so writers have to connect again.
func (d *Daemon) ResizeDisk(ctx context.Context, node string, size int64) error {
	if err := d.removeExport(ctx, node); err != nil {
		return err
	}
	err := d.QMP.Execute(ctx, "block_resize", map[string]any{"node-name": node, "size": size}, nil)
	if err != nil {
		return err
	}
	return d.exportDisk(ctx, node)
}

// removeExport ends an export and waits until it has let go of its node.
func (d *Daemon) removeExport(ctx context.Context, node string) error {
	err := d.QMP.Execute(ctx, "block-export-del", map[string]any{"id": "export-" + node, "mode": "hard"}, nil)
	if err != nil {
		return err
	}
	return poll(ctx, func() (bool, error) {
		var exports []struct{ ID string }
		err := d.QMP.Execute(ctx, "query-block-exports", nil, &exports)
		for _, e := range exports {
			if e.ID == "export-"+node {
				return false, err
			}
		}
		return true, err
	})
}

// DiskURI is the NBD URI of a disk's export.
func (d *Daemon) DiskURI(node string) string { return "nbd+unix:///" + node + "?socket=" + d.Socket }

// Target says where a backup goes. Unix (a socket path) or Host and Port.
type Target struct {
	Node           string
	Unix           string
	Host, Port     string
	Export         string
	TLSDir         string // with ca-cert.pem, client-cert.pem, client-key.pem; "" = in clear
	ReconnectDelay int    // seconds for which requests wait for a lost server; 0 = fail at once
}

// AddTarget connects an NBD client node to the target.
func (d *Daemon) AddTarget(ctx context.Context, t Target) error {
	args := map[string]any{
		"driver": "nbd", "node-name": t.Node, "server": t.address(), "export": t.Export,
		"discard": "unmap", "detect-zeroes": "unmap", "reconnect-delay": t.ReconnectDelay,
	}
	if t.TLSDir != "" {
		args["tls-creds"] = "tls-" + t.Node
		err := d.QMP.Execute(ctx, "object-add", map[string]any{
			"qom-type": "tls-creds-x509", "id": "tls-" + t.Node, "dir": t.TLSDir, "endpoint": "client", "verify-peer": true,
		}, nil)
		if err != nil {
			return err
		}
	}
	return d.QMP.Execute(ctx, "blockdev-add", args, nil)
}

func (t Target) address() map[string]any {
	if t.Unix != "" {
		return map[string]any{"type": "unix", "path": t.Unix}
	}
	return map[string]any{"type": "inet", "host": t.Host, "port": t.Port}
}

// RemoveNode closes a node; for a target that is when FLUSH and DISC are sent.
func (d *Daemon) RemoveNode(ctx context.Context, node string) error {
	return d.QMP.Execute(ctx, "blockdev-del", map[string]any{"node-name": node}, nil)
}
