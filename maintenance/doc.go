// Package maintenance looks after what a store holds, for as long as it holds
// it: it gives back space, reads everything again before it is needed, heals,
// prunes by policy, bounds chains and compresses what nobody had time to. [Engine.Run] does all of that by the clock;
// each thing is also a method.
//
// # The end of a point
//
//	live ─ Delete, Prune, a chain limit ─→ trash ─ its time is over ─→ removed ─ nobody reads it ─→ forgotten
//	  ↑                                      │
//	  └────────────── Undelete ──────────────┘
//
// A removed point stays removed whatever happens. As long as a reader has one of
// its images open, or an open session compares with it, its chunks count as
// used. Forgetting drops them: chunk records that nothing else names die, and the
// next collection frees the blocks that no chunk record leads to any more.
//
// Points that are held, locked, made by hand, or the parent of an open backup are
// not taken by rules or limits. Held and locked ones, and parents, are not taken
// at all: the catalog and the volumes refuse, each under the lock that its
// changes need, so that nothing slips in between.
//
// # Collecting garbage
//
// A collection runs beside backups, restores and deletes. It finds what is
// needed, not what is not; nothing is counted on for it. Its steps (collect.go):
//
//	purge    points whose time in the trash is over are removed
//	forget   removed points nobody uses lose their chunk references, durably
//	begin    all packs sealed by now are candidates; from now on every block a
//	         writer finds in one of them is marked by the finding (dedup)
//	barrier  waits for every operation on sessions' disks that began before
//	roots    marks what the maps of sessions lead to
//	mark     marks what the chunk records of all points not forgotten lead to
//	settle   waits for reads that may hold addresses nobody marked
//	audit    compares the marks with the accounts
//	sweep    takes packs without a mark away and writes others anew without
//	         their unmarked blocks (dedup)
//
// Why nothing needed is lost. A block is needed when a point, a session or a
// reader leads to it, now or by something under way.
//
//   - A reader's point is not forgotten, so it is among mark's.
//   - A session's block was stored, or found, before begin or after it. After:
//     it is in an open pack, which is no candidate, or marked by the finding.
//     Before: the operation has ended when barrier returns, so the block is in
//     the session's map, where roots finds it, unless the map lost it since,
//     and then nobody needs it; or the session became a point before roots came
//     to it, and mark comes later and finds that point. This is why roots comes
//     before mark: in the other order a commit between the two is seen by
//     neither.
//   - What a session inherits belongs to its parent, a point that cannot be
//     removed while the session is open.
//   - A chunk record made by a commit leads to nothing but what the session's
//     map and its parent lead to. A chunk whose record exists and is referenced
//     cannot die by the steps after forget, and a commit cannot bring back one
//     that is dead: the catalog no longer finds its record.
//   - A point that is deleted meanwhile was marked; its space comes back next
//     time.
//   - A read that found its addresses before they were overwritten, and before
//     roots passed, has ended when settle returns. One that begins later finds
//     only what roots saw or what was stored after begin.
//
// The audit adds a second opinion from a count that was made in another way. If
// it knows of a needed block that has no mark, nothing is swept.
//
// A collection may die at any step: marks are in memory, and a sweep replaces
// one file at a time, the old one last.
//
// # Compressing later
//
// Writers may store data as it is and leave compressing for later, when a client
// is faster than the compressor. [Engine.Compress] makes good for it: packs are
// written anew, every block in its slot, one after the other. It begins by itself
// when nothing was brought for a while or a lot waits, and rests between packs
// while clients store data, unless the disk fills up. What a collection or a
// repair writes anew is compressed too.
//
// # Damage
//
// Damage is met by reads and looked for by verification: of everything within a
// target age (scrub.go says in which order), or on demand. Blocks that are
// damaged count for nobody as stored, so the next backup that brings one stores
// it again, and [Engine.Repair] puts that copy in its place. Until then the images
// that need the block are affected: listed, marked, and no backup inherits from
// them. In mode auto it becomes a full one; an explicit incremental is refused.
//
// # Chains
//
// The chain of an image is what it hangs on by its parents, without points in
// the trash. No image needs its chain, so what bounds it is policy: a full after
// so many incrementals in mode auto; at the limit the oldest point that may go by
// itself goes to make room for an automatic backup, and a backup by hand is
// refused. strict-chains (strict.go) is the classical rule on top.
//
// # Locks
//
//	volume's lock of points   held while a point goes or a session begins
//	damageState.looking       one look for affected images at a time
//	jobs.mu → run.mu          what is running
//	damageState.mu, gcState.mu, scrubState.mu, ageState.mu, compressState.mu, Engine.mu: leaves
//
// Starting a backup asks plan with volume's lock held shared, so plan
// changes nothing; it returns what is to be done before, which Start does without
// the lock and then asks again. Events are called without a lock.
package maintenance
