package main

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/strongroom-backup/strongroom/server/api"
)

// reconnectSeconds is how long a guest's disk waits for a server that is being
// restarted, before the guest gets an I/O error.
const reconnectSeconds = 300

// cloneRecipe is what to do with a clone, to be copied. docs/OPERATIONS.md has
// the whole of it.
func cloneRecipe(x api.Clone, local bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\nRun the VM from it (QEMU):\n\n")
	tls := false
	for i, d := range x.Disks {
		option, secure := blockdev(d, nodeName(d.Disk, i), local)
		tls = tls || secure
		fmt.Fprintf(&b, "  -blockdev %s \\\n  -device virtio-blk-pci,drive=%s\n", option, nodeName(d.Disk, i))
	}
	if tls {
		fmt.Fprintf(&b, "  -object tls-creds-x509,id=tls0,endpoint=client,dir=/etc/pki/qemu\n")
	}
	fmt.Fprintf(&b, "\nMove each disk away while it runs (QMP; the second when the job is ready, the third when it is gone):\n\n")
	for i, d := range x.Disks {
		fmt.Fprintf(&b, "  {\"execute\":\"drive-mirror\",\"arguments\":{\"job-id\":\"move-%[1]s\",\"device\":\"%[1]s\",\"target\":\"/path/%[2]s.raw\",\"format\":\"raw\",\"sync\":\"full\"}}\n"+
			"  {\"execute\":\"block-job-complete\",\"arguments\":{\"device\":\"move-%[1]s\"}}\n"+
			"  {\"execute\":\"blockdev-del\",\"arguments\":{\"node-name\":\"%[1]s\"}}\n", nodeName(d.Disk, i), d.Disk)
	}
	fmt.Fprintf(&b, "\nor with libvirt:\n\n")
	for _, d := range x.Disks {
		fmt.Fprintf(&b, "  virsh blockcopy %s %s --dest /path/%[2]s.raw --format raw --transient-job --wait --verbose --pivot\n", x.VM, d.Disk)
	}
	fmt.Fprintf(&b, "\nThen: strongroom clone discard %[1]s, or strongroom clone seal %[1]s to keep what the guest wrote as a point.\n", x.Clone)
	return b.String()
}

// nodeNameMax is what QEMU takes (BlockDriverState.node_name, less its NUL).
const nodeNameMax = 31

// nodeName is a disk's name, if QEMU can call it that.
func nodeName(disk string, i int) string {
	if c := disk[0] | 0x20; len(disk) > nodeNameMax || c < 'a' || c > 'z' {
		return fmt.Sprintf("disk%d", i)
	}
	return disk
}

// blockdev is the value of QEMU's option for a disk: over the unix socket for who
// is on the server's host, else over TCP, if the server is there at all.
func blockdev(d api.CloneDisk, node string, local bool) (option string, tls bool) {
	uri := d.URI
	if local && d.UnixURI != "" || uri == "" {
		uri = d.UnixURI
	}
	u, err := url.Parse(uri)
	if err != nil || uri == "" {
		return "", false
	}
	parts := []string{"driver=nbd", "node-name=" + node}
	if u.Scheme == "nbd+unix" {
		parts = append(parts, "server.type=unix", "server.path="+u.Query().Get("socket"))
	} else {
		tls = u.Scheme == "nbds"
		parts = append(parts, "server.type=inet", "server.host="+u.Hostname(), "server.port="+u.Port())
		if tls {
			parts = append(parts, "tls-creds=tls0")
		}
	}
	parts = append(parts, "export="+d.Export, fmt.Sprintf("reconnect-delay=%d", reconnectSeconds), "discard=unmap")
	for i := range parts {
		parts[i] = strings.ReplaceAll(parts[i], ",", ",,") // as QEMU wants it
	}
	return api.ShellWord(strings.Join(parts, ",")), tls
}
