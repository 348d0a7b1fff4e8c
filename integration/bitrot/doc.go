// Package bitrot damages a data directory and looks at what becomes of it.
//
// Two worlds are made by the real engines, with one history: backups of a few
// VMs, removals, a torn pack, a failed sync, open sessions. One was closed, the
// other's process was killed. Every file is taken apart by its format into
// classes of bytes, and each class spoilt in each way there is:
//
//	in a unit    flip a bit, zero a sector, truncate, swap two, duplicate one
//	of a file    garbage behind it, swap two, one in place of another,
//	             an older copy, gone
//
// The engines are opened on the damaged directory. If they refuse, what the
// error says is done: a database is deleted, an intact file put back, a foreign
// pack taken out. Then everything is read and every pack verified; what cannot
// be read is backed up again and the packs repaired. The test fails when
//
//   - one wrong byte is served, or a point, a blob or a session is not as it was
//   - nobody noticed (no refusal, event, error or finding of the verification),
//     unless dontcare_test.go says why nobody needs to
//   - a block cannot be read whose frame was not touched
//   - a block is not repaired whose hash is still known
//   - something panics or hangs
//
// The table counts what was detected, and lost, detected and all there again,
// and not noticed for a listed reason. STRONGROOM_SEED repeats a run,
// STRONGROOM_SOAK=n draws n times as many damages.
package bitrot
