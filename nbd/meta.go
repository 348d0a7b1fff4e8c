package nbd

import (
	"context"
	"encoding/binary"
	"slices"
	"strings"
)

// failMeta fails a META_CONTEXT option; SET forgets even then.
func (n *negotiation) failMeta(id, rep uint32, text string) {
	n.forgetMeta(id)
	n.fail(id, rep, text)
}

func (n *negotiation) forgetMeta(id uint32) {
	if id == optSetMeta {
		n.meta, n.metaFor = nil, ""
	}
}

// metaReply appends one context.
func (n *negotiation) metaReply(option, id uint32, name string) {
	n.reply(option, repMeta, binary.BigEndian.AppendUint32(nil, id), []byte(name))
}

// metaOption answers LIST_META_CONTEXT and SET_META_CONTEXT.
func (n *negotiation) metaOption(id uint32) {
	n.forgetMeta(id)
	export, queries, tooMany, ok := parseMeta(n.data)
	switch {
	case !n.structured:
		n.fail(id, repErrInvalid, "structured replies come first")
		return
	case !ok:
		n.fail(id, repErrInvalid, "malformed META_CONTEXT request")
		return
	case tooMany:
		n.fail(id, repErrTooBig, "too many queries")
		return
	case slices.ContainsFunc(queries, func(q string) bool { return !strings.Contains(q, ":") }):
		n.fail(id, repErrInvalid, "a query needs a namespace and a colon")
		return
	}
	ctx, cancel := n.lookup()
	defer cancel()
	_, _, err := n.c.srv.exports.Stat(ctx, export)
	switch {
	case err != nil:
	case id == optListMeta:
		err = n.listMeta(ctx, export, queries)
	default:
		err = n.setMeta(ctx, export, queries)
	}
	if err != nil {
		n.failExport(id, err)
	}
}

// listMeta answers LIST_META_CONTEXT: no query asks for everything, one that ends
// in a colon for what begins like that, any other for a context.
func (n *negotiation) listMeta(ctx context.Context, export string, queries []string) error {
	var names []string
	var listed []string
	asked := false
	add := func(name string) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(queries) == 0 {
		queries = []string{""}
	}
	for _, q := range queries {
		if q != "" && !strings.HasSuffix(q, ":") {
			has, err := n.hasContext(ctx, export, q)
			if err != nil {
				return err
			}
			if has {
				add(q)
			}
			continue
		}
		if !asked {
			var err error
			if listed, err = n.contexts(ctx, export); err != nil {
				return err
			}
			asked = true
		}
		for _, name := range listed {
			if strings.HasPrefix(name, q) {
				add(name)
			}
		}
	}
	for _, name := range names {
		n.metaReply(optListMeta, 0, name)
	}
	n.reply(optListMeta, repAck)
	return nil
}

// setMeta answers SET_META_CONTEXT. Only exact names select. The number of a
// context is its place, counted from 1.
func (n *negotiation) setMeta(ctx context.Context, export string, queries []string) error {
	var names []string
	for _, q := range queries {
		if slices.Contains(names, q) {
			continue
		}
		has, err := n.hasContext(ctx, export, q)
		if err != nil {
			return err
		}
		if has {
			names = append(names, q)
		}
	}
	if len(names) > maxContexts {
		n.fail(optSetMeta, repErrTooBig, "too many contexts at once")
		return nil
	}
	n.meta, n.metaFor = names, export
	for i, name := range names {
		n.metaReply(optSetMeta, contextID(i), name)
	}
	n.reply(optSetMeta, repAck)
	return nil
}

func contextID(place int) uint32 { return uint32(place) + 1 }

func (n *negotiation) hasContext(ctx context.Context, export, name string) (bool, error) {
	if strings.HasPrefix(name, nsBase) {
		return name == metaAllocation, nil
	}
	x, ok := n.c.srv.exports.(ContextExports)
	if !ok {
		return false, nil
	}
	return x.HasContext(ctx, export, name)
}

// contexts is what may be listed of an export, base:allocation first.
func (n *negotiation) contexts(ctx context.Context, export string) ([]string, error) {
	names := []string{metaAllocation}
	x, ok := n.c.srv.exports.(ContextExports)
	if !ok {
		return names, nil
	}
	more, err := x.Contexts(ctx, export)
	if err != nil {
		return nil, err
	}
	for _, name := range more[:min(len(more), maxContextsListed)] {
		if validName([]byte(name)) {
			names = append(names, name)
		}
	}
	return names, nil
}
