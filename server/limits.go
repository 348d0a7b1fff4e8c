package server

import (
	"time"

	"github.com/strongroom-backup/strongroom/internal/units"
)

// Every limit of the server, with its reason. What an operator may change is in
// Config; these are its defaults and ranges, and the bounds of the control API.
const (
	// drainTimeoutDefault ends a shutdown well before systemd's 90 s kill.
	drainTimeoutDefault = 30 * time.Second

	// nbdHandshakeDefault is what QEMU gives its own clients (CVE-2024-7409).
	nbdHandshakeDefault = 10 * time.Second
	// nbdRequestDefault bounds how long half a request may hold its buffer:
	// 32 MiB in 60 s is 4.5 Mbit/s, slower than any backup network.
	nbdRequestDefault = 60 * time.Second
	// bufferMemoryMin holds two of the largest NBD requests (32 MiB).
	bufferMemoryMin = 64 * units.MiB
	bufferMemoryMax = units.TiB

	// cacheMin is below what Pebble works with sensibly.
	cacheMin = 8 * units.MiB
	cacheMax = units.TiB

	// configBytesMax is a hundred times the commented example.
	configBytesMax = 1 << 20
	// tokenBytesMin is 128 bits of a token written in base64.
	tokenBytesMin = 22
	// tokenFileBytesMax leaves room for any token; the rest is a wrong file.
	tokenFileBytesMax = 4096

	// unixPathMax is sizeof(sun_path) less its NUL.
	unixPathMax = 107

	// bodyBytesMax carries blobsBytesMax in base64 and the rest of a request.
	bodyBytesMax = 24 << 20
	// blobsBytesMax is the blobs of one point together: domain XMLs are some
	// tens of KiB; TPM state and NVRAM a few MiB.
	blobsBytesMax = 16 << 20
	// headerBytesMax is many times what a client of ours sends.
	headerBytesMax = 32 << 10
	// httpHeaderTimeout drops a client that dribbles its request.
	httpHeaderTimeout = 10 * time.Second
	// httpReadTimeout bounds a whole request, body included.
	httpReadTimeout = time.Minute
	// httpIdleTimeout keeps a scraper's connection between two scrapes.
	httpIdleTimeout = 2 * time.Minute
	// httpConnectionsMax bounds the goroutines a stranger can make us keep.
	httpConnectionsMax = 256

	// disksMax is more disks than QEMU's buses take for one VM.
	disksMax = 256
	// blobsMax and labelsMax are far above what orchestrators attach.
	blobsMax  = 64
	labelsMax = 64
	// labelValueMax is a Kubernetes annotation's practical size.
	labelValueMax = 4096
	// diskSizeMax is what 2^32 blocks of 64 KiB hold, 256 TiB, and more than
	// any disk format QEMU attaches.
	diskSizeMax = 256 * units.TiB

	// listedExportsMax bounds the answer to NBD_OPT_LIST; any export can be
	// opened whether it is listed or not.
	listedExportsMax = 10_000

	// expireEvery is how late an expired backup may be noticed.
	expireEvery = 5 * time.Second
)
