// Package readahead reads for sequential readers what they will want next.
//
// A [Reader] stands before something that is read at offsets. It follows several
// streams, since clients read with several threads, and programs several files of
// one image. When a request goes on where one before it ended, what comes next is
// read meanwhile, in pieces, by as many goroutines as there are cores; the further
// a stream has come, the more pieces. A request takes what is there, waits for what
// is being read, and reads the rest itself.
//
// All readers share a [Budget] of memory. Pieces are given back when they were
// taken, when their stream goes elsewhere or stands still, and by Close. Who has
// requests enough in flight to keep all cores busy is not read ahead for: that
// would only cost a copy.
//
// A piece that could not be read counts as none. So only the request that wants
// the damaged bytes hears of them.
//
// Reader.mu is held for moments and a leaf; nothing is read under it.
package readahead
