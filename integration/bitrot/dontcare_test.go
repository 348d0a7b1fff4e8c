package bitrot

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
)

// careless are the damages that nobody needs to notice: what was read is right
// all the same.
var careless = []struct {
	class string // how the class begins
	kinds []kind // nil: all
	why   string
}{
	{"index ", nil, "the block index is a hint: what it says counts only when a pack's own table says so too, and it may be deleted whole"},
	{"catalog ", nil, "the catalog database may be deleted whole: what it has lost at its end is applied again from the log, " +
		"its blocks are verified when they are read, and what it is asked for was read"},
	{"sealed pack: torn bytes", nil, "nothing leads to the bytes that a crash left behind the last good frame"},
	{"log file", []kind{garbage}, "what stands behind the last transaction of a file is void"},
	{"log: commit record", []kind{duplicate}, "what stands behind the last transaction of a file is void"},
	{"sealed pack: TOC", []kind{duplicate}, "it is inserted behind itself: nothing leads to the copy, and all else is where the footer says"},
	{"sealed pack: footer", []kind{duplicate}, "the last bytes of the file are the footer, as they were"},
	{"session file", []kind{stale}, "what an older session.json of an open backup says is still so: only the number of records is missing"},
	{"identity", nil, "the engines do not read it: TestIdentity does"},
}

// dontCare says why nobody needs to notice a damage; "" if somebody must.
func dontCare(c *cell) string {
	for _, x := range careless {
		if strings.HasPrefix(c.class, x.class) && (x.kinds == nil || slices.Contains(x.kinds, c.kind)) {
			return x.why
		}
	}
	if b := c.files[c.file]; kindOf(c.file) == "journal" && c.kind == garbage && len(bytes.Trim(b[len(c.w.files[c.file]):], "\x00")) == 0 {
		return "zeros are what stands behind a journal whose end was cleared"
	}
	if c.behindNote() {
		return "the note beside the pack says that these slots do not exist"
	}
	if c.cutBetweenRecords() {
		return lostEnd
	}
	return ""
}

// lostEnd is the one damage that takes acknowledged writes without a sign. It
// needs a server that was killed and a file that lost its end before the next
// start, exactly between two records: a journal that a killed server leaves may
// end with any record, and nothing but the journal knows how many there were.
// No committed point is concerned.
const lostEnd = "the journal of a killed server's open backup may end with any record"

func (c *cell) cutBetweenRecords() bool {
	if c.w.name != "killed" || kindOf(c.file) != "journal" {
		return false
	}
	was, now := c.w.files[c.file], bytes.TrimRight(c.files[c.file], "\x00")
	for _, u := range journalUnits(was) {
		rest := int64(len(now)) - u.end()
		// The last byte of a record may be zero itself.
		if rest >= -4 && rest <= 0 && bytes.HasPrefix(was, now) && int64(len(c.files[c.file])) >= u.end() {
			return true
		}
	}
	return false
}

// behindNote: all that was harmed is in slots that were never durable.
func (c *cell) behindNote() bool {
	note := c.w.files[strings.TrimSuffix(c.file, ".pack")+".note"]
	if kindOf(c.file) != "pack" || len(c.files) > 1 || len(note) != 32 {
		return false
	}
	durable := binary.LittleEndian.Uint32(note[20:])
	for a := range c.harm() {
		if uint32(a.Slot()) < durable {
			return false
		}
	}
	return true
}
