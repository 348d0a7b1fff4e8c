package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/strongroom-backup/strongroom/server/api"
)

func TestLockDate(t *testing.T) {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	for _, x := range []struct{ until, duration, want string }{
		{"2027-12-31", "", "2028-01-01T00:00:00Z"}, // its end
		{"2027-12-31T18:00:00+01:00", "", "2027-12-31T17:00:00Z"},
		{"", "30d", "2026-12-20T12:00:00Z"},
		{"", "", ""}, {"2027-12-31", "30d", ""}, {"tomorrow", "", ""}, {"", "-1d", ""}, {"31.12.2027", "", ""},
	} {
		got, err := lockDate(x.until, x.duration, now)
		if (err == nil) != (x.want != "") || err == nil && got.Format(time.RFC3339) != x.want {
			t.Errorf("%+v: %v, %v", x, got, err)
		}
	}
}

func TestParseLabelKeep(t *testing.T) {
	for text, want := range map[string]string{
		"tier=gold:daily=30,yearly=7": "tier=gold daily=30 yearly=7",
		"url=http://x:last=1":         "url=http://x last=1",
		"a=b:last=0":                  "a=b every point",
		"a=b":                         "", "a:last=1": "", "a=b:": "", "a=b:last": "", "a=b:last=-1": "", "a=b:often=1": "", "a=b:last=1,,": "",
	} {
		label, k, err := parseLabelKeep(text)
		if (err == nil) != (want != "") || err == nil && label+" "+keepText(k) != want {
			t.Errorf("%q: %q %v, %v", text, label, k, err)
		}
	}
}

// Following a job asks until it has ended, and tells how.
func TestFollow(t *testing.T) {
	for _, x := range []struct {
		last api.Job
		fail string
	}{
		{api.Job{State: api.JobDone}, ""},
		{api.Job{State: api.JobFailed, Error: "disk on fire"}, "disk on fire"},
		{api.Job{State: api.JobCancelled}, "cancelled"},
	} {
		asked := 0
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if asked++; asked < 3 {
				fmt.Fprint(w, `{"id":"j","state":"running","total":2,"done":1}`)
				return
			}
			fmt.Fprintf(w, `{"id":"j","state":%q,"error":%q}`, x.last.State, x.last.Error)
		}))
		client, err := api.NewClient(s.URL, api.ClientOptions{})
		if err != nil {
			t.Fatal(err)
		}
		j, err := follow(t.Context(), &env{}, client, api.Job{ID: "j", State: api.JobRunning})
		if j.State != x.last.State || (err == nil) != (x.fail == "") || err != nil && !strings.Contains(err.Error(), x.fail) || asked != 3 {
			t.Errorf("%+v, %v after %d questions", j, err, asked)
		}
		client.Close()
		s.Close()
	}
}

// An interrupt ends the waiting, and says that the job goes on.
func TestFollowInterrupted(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		stop()
		<-r.Context().Done() // or an answer may come before the interrupt is noticed
	}))
	defer s.Close()
	client, err := api.NewClient(s.URL, api.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var said strings.Builder
	_, err = follow(ctx, &env{stderr: &said}, client, api.Job{ID: "j7", State: api.JobRunning})
	if !errors.Is(err, context.Canceled) || !strings.Contains(said.String(), "strongroom job cancel j7") {
		t.Errorf("%v, said %q", err, said.String())
	}
}

// A job's bar begins anew with every phase.
func TestJobBar(t *testing.T) {
	var out strings.Builder
	b := newJobBar(&out)
	for _, j := range []api.Job{
		{Kind: "gc", Phase: "mark", Done: 1, Total: 4, Unit: "points"},
		{Kind: "gc", Phase: "sweep", Unit: "bytes"},
		{Kind: "gc", Phase: "sweep", Done: 9, Total: 4, Unit: "bytes"},
	} {
		b.show(j)
	}
	b.clear()
	if got := out.String(); !strings.Contains(got, "gc: mark") || !strings.Contains(got, "gc: sweep") {
		t.Errorf("%q", got)
	}
	(*jobBar)(nil).show(api.Job{})
	(*jobBar)(nil).clear()
}
