package catalog

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/catalog/retention"
)

func TestPolicy(t *testing.T) {
	fs := newFS()
	c := mustOpen(t, testOptions(fs))
	n, strict, keep := 32, true, 48*time.Hour
	p := Policy{Keep: &retention.Keep{Last: 3, Yearly: 1}, LabelKeep: map[string]retention.Keep{"job=weekly": {Weekly: 9}, "a=": {}},
		FullAfter: &n, ChainLimit: &n, ManualWarn: new(int), StrictChains: &strict, TrashKeep: &keep}
	mustDo(t, c.SetPolicy("vm1", p), c.SetPolicy("", Policy{ChainLimit: &n}), c.SetPolicy("vm2", p), c.SetPolicy("vm2", Policy{}))
	for range 2 {
		if got, err := c.Policy("vm1"); err != nil || !reflect.DeepEqual(got, p) {
			t.Errorf("%+v, %v; want %+v", got, err, p)
		}
		if got, err := c.Policy("vm2"); err != nil || !reflect.DeepEqual(got, Policy{}) {
			t.Errorf("taken away: %+v, %v", got, err)
		}
		if all, err := c.Policies(); err != nil || len(all) != 2 || *all[""].ChainLimit != 32 {
			t.Errorf("%+v, %v", all, err)
		}
		mustClose(t, c)
		mustDo(t, fs.RemoveAll("/data/catalog"))
		c = mustOpen(t, testOptions(fs))
	}
	mustClose(t, c)
}

func TestPolicyLimits(t *testing.T) {
	c := mustOpen(t, testOptions(newFS()))
	defer mustClose(t, c)
	many := map[string]retention.Keep{}
	for i := range MaxLabelRules + 1 {
		many[fmt.Sprintf("k=%d", i)] = retention.Keep{}
	}
	long := map[string]retention.Keep{}
	for i := range MaxLabelRules {
		long[fmt.Sprintf("k%d=%s", i, strings.Repeat("x", MaxLabelBytes))] = retention.Keep{}
	}
	less, more, negative := -1, maxPolicyCount+1, -time.Second
	for name, p := range map[string]Policy{
		"negative keep":       {Keep: &retention.Keep{Daily: -1}},
		"huge keep":           {Keep: &retention.Keep{Daily: math.MaxInt}},
		"label without value": {LabelKeep: map[string]retention.Keep{"job": {}}},
		"label without name":  {LabelKeep: map[string]retention.Keep{"=x": {}}},
		"label not UTF-8":     {LabelKeep: map[string]retention.Keep{"a=\xff": {}}},
		"label rule negative": {LabelKeep: map[string]retention.Keep{"a=b": {Last: -1}}},
		"too many labels":     {LabelKeep: many},
		"too many bytes":      {LabelKeep: long},
		"full after less":     {FullAfter: &less},
		"chain limit more":    {ChainLimit: &more},
		"manual warn less":    {ManualWarn: &less},
		"trash keep negative": {TrashKeep: &negative},
	} {
		if err := c.SetPolicy("vm", p); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := c.SetPolicy("../vm", Policy{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("a bad name: %v", err)
	}
	if all, err := c.Policies(); err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
}
