package catalog

// Audit is what AuditAccounts found.
type Audit struct {
	Packs     int64 // compared
	Slots     int64 // of them, counted and marked
	Unmarked  int64 // counted, but not marked: a discrepancy always
	Uncounted int64 // marked, but not counted: a discrepancy unless sessions, or points forgotten since, explain it
}

// AuditAccounts compares the accounts with the marks of a garbage collection.
// live returns a pack's marks, bit slot&63 of word slot>>6, nil for a pack that
// is not to be compared; dedup's (*Collection).Live is made for it. It must be
// asked after everything has been marked. exact says that nothing but points
// has been marked and nothing was forgotten since: then Uncounted is an error
// as well. The error matches ErrAccounts and names the first packs.
func (c *Catalog) AuditAccounts(live func(pack uint64) []uint64, exact bool) (Audit, error) {
	return Audit{}, errUnfinished
}
