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

	// closeTimeout is what syncing and closing the engines may take after that.
	closeTimeout = 30 * time.Second

	// nbdHandshakeDefault is what QEMU gives its own clients (CVE-2024-7409).
	nbdHandshakeDefault = 10 * time.Second
	// nbdStallDefault bounds how long half a request may hold its buffer
	// without a byte coming.
	nbdStallDefault = 30 * time.Second
	// bufferMemoryMin holds two of the largest NBD requests (32 MiB).
	bufferMemoryMin = 64 * units.MiB
	bufferMemoryMax = units.TiB

	// sftpLoginDefault is a person's time to type a password, and a slow
	// machine's to compute a key; OpenSSH gives two minutes.
	sftpLoginDefault = 30 * time.Second
	// sftpIdleDefault ends mounts that somebody forgot; clients that are alive
	// answer keepalives, but do nothing.
	sftpIdleDefault = 12 * time.Hour
	// sftpConnectionsMax and sftpHandlesMax are beyond what a process's file and
	// memory limits make sense of.
	sftpConnectionsMax = 65536
	sftpHandlesMax     = 65536
	// sftpUsersMax, sftpKeysMax (of a user) and sftpPatternsMax (of a user) bound
	// what a login looks through.
	sftpUsersMax    = 10_000
	sftpKeysMax     = 64
	sftpPatternsMax = 1000
	// keyLineMax is an RSA key of 16384 bits in base64, and its comment.
	keyLineMax = 8 << 10
	// rsaBitsMin is what OpenSSH's RequiredRSASize may be lowered to nowhere.
	rsaBitsMin = 2048
	// bcryptCostMin is what a graphics card takes a second for a few thousand
	// guesses of; bcryptCostMax takes this server ten seconds a login.
	bcryptCostMin = 10
	bcryptCostMax = 16
	// passwordsAtOnce leaves processors to those who are logged in.
	passwordsAtOnce = 2
	// jobLoginMax is many times what is kept of a job's login.
	jobLoginMax = 64 << 10

	// cacheMin is below what Pebble works with sensibly.
	cacheMin = 8 * units.MiB
	cacheMax = units.TiB

	// trashKeepMax and scrubAgeMax are ten years.
	trashKeepMax = 3653 * units.Day
	scrubAgeMax  = 3653 * units.Day
	// scrubAgeMin keeps a scrub from doing nothing but reading the same again.
	scrubAgeMin = time.Minute
	// keepMax is more than a point an hour for a century.
	keepMax = 1_000_000
	// labelRulesMax bounds what is looked at for each point pruned.
	labelRulesMax = 64
	// chainMax bounds chain limits to what can still be shown.
	chainMax = 1_000_000
	// deadRatioMin moves at most fifty bytes to free one.
	deadRatioMin = 0.02
	// gcEveryMin is how often the accounts may be asked whether to collect.
	gcEveryMin = time.Second

	// figuresEvery is how often the figures per VM and disk of the metrics are
	// counted, figuresMax for how many disks at most. On a large store it is less
	// often, so that it takes one part in figuresShare of the time.
	figuresEvery = 2 * time.Minute
	figuresShare = 50
	figuresMax   = 5000
	// scrubLateShare calls the verification late when a pack is older than the
	// target by a tenth of it.
	scrubLateShare = 10
	// jobsKept is a few weeks of what runs by itself and found something to do.
	jobsKept = 100
	// jobWaitMax is how many seconds an answer about a job may be waited for.
	jobWaitMax = 60
	// holdReasonMax is a sentence or two.
	holdReasonMax = 500

	// configBytesMax is a hundred times the commented example.
	configBytesMax = 1 << 20
	// tokenBytesMin is 128 bits of a token written in base64.
	tokenBytesMin = 22
	// tokenFileBytesMax leaves room for any token; the rest is a wrong file.
	tokenFileBytesMax = 4096

	// unixPathMax is sizeof(sun_path) less its NUL.
	unixPathMax = 107

	// bodyBytesMax carries a point's blobs (catalog.MaxPointBlobBytes) in
	// base64, and the rest of a request.
	bodyBytesMax = 24 << 20
	// headerBytesMax is many times what a client of ours sends.
	headerBytesMax = 32 << 10
	// httpHeaderTimeout drops a client that dribbles its request.
	httpHeaderTimeout = 10 * time.Second
	// httpReadTimeout bounds a whole request, body included.
	httpReadTimeout = time.Minute
	// httpWriteTimeout bounds the reading of an answer; the longest, a listing
	// of a million points, is some 300 MB.
	httpWriteTimeout = 5 * time.Minute
	// streamBuffer gathers some hundred points of a listing in one write.
	streamBuffer = 64 << 10
	// streamDeadlineEvery gives a listing that is being read more time, every so
	// many points.
	streamDeadlineEvery = 1000
	// hashStreamsMax is how many disks may be hashed at a time: each reads 8 MiB
	// ahead and keeps a processor busy.
	hashStreamsMax = 4
	// httpIdleTimeout keeps a scraper's connection between two scrapes.
	httpIdleTimeout = 2 * time.Minute
	// httpConnectionsMax bounds the goroutines a stranger can make us keep.
	httpConnectionsMax = 256

	// listedExportsMax bounds the answer to NBD_OPT_LIST; any export can be
	// opened whether it is listed or not.
	listedExportsMax = 10_000
	// listedContextsMax is a month of daily points; any other can be named.
	listedContextsMax = 32

	// leaveGrace is how long a guest that has just ended may take to be noticed,
	// before sealing or discarding its clone is refused; leavePoll is how often
	// that is looked at.
	leaveGrace = 500 * time.Millisecond
	leavePoll  = 10 * time.Millisecond
	// expireEvery is how late an expired backup may be noticed.
	expireEvery = 5 * time.Second
)
