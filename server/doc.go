// Package server is the composition root: it opens the engines on a data
// directory, serves them over NBD, SFTP and the control API, and turns what they
// return into logs, metrics and answers.
//
//	           control API (HTTP, JSON)        NBD                   SFTP
//	api.sock ──┐                                │ nbd.sock, nbd.listen │ sftp.listen
//	http.listen┴─ control.go, handlers.go    nbd.Server           sftp.Server ─▶ sftpusers.go
//	                 │        │                 │                      │         joblogins.go
//	                 │   backups.go, clones.go ─fence─▶ exports.go   files.Service
//	                 ▼        ▼                 ▼                      │
//	     maintenance.Engine   volume.Manager (sessions, images, files)◀┘
//	                 └──▶ catalog.Catalog, dedup.Store, tier.Dir
//
// # Data directory
//
// strongroom.json (datadir.go) makes a directory a store: format version, store
// id and the key of the hashes, mode 0600, with a copy in tier0 beside the
// packs. LOCK belongs to the one server. The other directories belong to the
// engines.
//
// # Life
//
// Open reads secrets, looks at the format, takes LOCK, opens tier, blocks,
// catalog and volume in this order, then listens. Run serves until its context
// ends, then drains: no new connections, answers for what was read, engines
// closed from the top down, LOCK last. Nothing depends on that happening: after
// a kill the next Open recovers.
//
// # Committing
//
// A session's clients are disconnected before its commit or abort: the tokens
// are fenced (exports refuse them for now), nbd.Server.CloseExport answers what
// is in flight and closes every device, then volume commits. Afterwards the
// session itself refuses.
//
// A session with files is committed by files.Service, which makes images of them
// first, however long that takes. One commit of a session runs at a time; who
// asks again waits for its answer (Server.commits).
//
// # Clones
//
// A clone (clones.go) is a session of another kind. One verb on it runs at a time
// (Server.verbs). Sealing or discarding it fences its tokens first, then looks who
// is connected: whoever is stays connected and the verb is refused, unless it is
// forced; nobody comes in between the look and the deed. volume's events tell
// backups from clones by their id alone; sessionlog.go knows which is which.
//
// # Logins over SFTP
//
// sftpusers.go decides who gets in: users of the configuration, and jobs. A job's
// login (joblogins.go) is made with its session and lives as long: its public key
// and the SHA-256 of its password are in sftp/jobs/SESSION.json before the client
// is told the secrets, which are kept nowhere. volume's events of ends
// (Server.sessionEnded) close the login's connections, empty its folder and
// remove the file; what a crash leaves of that the next Open does. The file is
// JSON, {format: 1, session, vm, made, key, password_sha256}; one that cannot be
// read lets nobody in.
//
// # Upkeep
//
// maintenance.Engine collects, verifies, prunes and keeps chains short, by itself
// and on request; maintain.go makes it and logs what it tells. Its jobs, and the
// last that ended, are remembered in jobs.go. figures.go counts now and then what
// the metrics show per VM and disk. All of this ends before the engines are
// closed.
//
// Rebuild (rebuild.go) is for a directory without a server: it takes LOCK, lets
// the engines make both databases anew and closes them.
//
// # Locks
//
// Server.mu, exports.mu, jobs.mu, jobLogins.mu, keyLocks.mu, sessionLog.mu,
// watchedFS.mu and burst.mu are leaves: nothing is called under them. The lock of
// a clone (Server.verbs) is taken before Server.publishing. Server.publishing is held shared by
// commits and exclusively while the engines are closed. jobs.asking, one per kind
// of job, is held while a job that a request asked for begins; the engine calls
// jobs.began meanwhile. exports.listing is held while the catalog is read.
package server
