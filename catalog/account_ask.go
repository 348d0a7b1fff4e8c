package catalog

import (
	"encoding/binary"
	"maps"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/strongroom-backup/strongroom/dedup"
)

// askState lets one question at a time be worked on, whose memory is then all
// there is, and keeps answers as long as nothing has changed.
type askState struct {
	sync.Mutex // taken before accounts.mu
	stamp      string
	answers    map[string]map[string]Usage
	images     int // usages in answers
	sums       packSums
	addrs      []dedup.Addr
	stored     []uint32
}

// ask answers a question: whose images load lists, an answer for each by its
// point, or one for all by "". key tells it from other questions; "" is not
// remembered. The answer is shared.
func (c *Catalog) ask(key string, each bool, load func(r pebble.Reader) ([]askedImage, error)) (map[string]Usage, error) {
	if err := c.enter(); err != nil {
		return nil, err
	}
	defer c.leave()
	a := &c.accounts
	a.asking.Lock()
	defer a.asking.Unlock()
	answer, err := a.answer(key, each, load)
	if err != nil && a.mend(err) {
		answer, err = a.answer(key, each, load)
	}
	return answer, err
}

func (a *accounts) answer(key string, each bool, load func(r pebble.Reader) ([]askedImage, error)) (map[string]Usage, error) {
	view, err := a.settled()
	if err != nil {
		return nil, err
	}
	defer view.Close()
	keep, err := a.fresh(view)
	if err != nil {
		return nil, err
	}
	if known, ok := a.asking.answers[key]; ok && keep {
		return known, nil
	}
	q := question{a: a, view: view, each: each}
	if q.images, err = load(view); err != nil {
		return nil, err
	}
	usages, err := q.answers()
	if err != nil {
		return nil, err
	}
	answer := map[string]Usage{}
	for i, u := range usages {
		if each {
			answer[q.images[i].point] = u
		} else {
			answer[""] = u
		}
	}
	if keep && key != "" {
		a.asking.keep(key, answer)
	}
	return answer, nil
}

// fresh drops answers that may have changed, and tells whether new ones may be
// kept. What the accounts know changes with every transaction of the log and
// with every point forgotten after its removal.
func (a *accounts) fresh(view *accountView) (keep bool, err error) {
	version, keep := a.c.packVersion(0)
	mark, err := get(view, []byte{keyWatermark})
	if err != nil {
		return false, unreadable("the watermark", err)
	}
	pending := uint64(0)
	if err := scan(view, []byte{keyPending}, func(_, _ []byte) error { pending++; return nil }); err != nil {
		return false, err
	}
	stamp := string(binary.AppendUvarint(binary.AppendUvarint(mark, pending), version))
	if stamp != a.asking.stamp || !keep {
		a.asking.stamp, a.asking.answers, a.asking.images = stamp, map[string]map[string]Usage{}, 0
	}
	return keep, nil
}

func (s *askState) keep(key string, answer map[string]Usage) {
	if len(s.answers) >= maxAnswers || s.images+len(answer) > maxAnswerImages {
		clear(s.answers)
		s.images = 0
	}
	s.answers[key] = maps.Clone(answer)
	s.images += len(answer)
}
