package main

import (
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/strongroom-backup/strongroom/internal/units"
	"github.com/strongroom-backup/strongroom/server/api"
)

func newJob(e *env) *cli.Command {
	sub := func(name, usage string, action func(c *cli.Context, client *api.Client, id string) (api.Job, error)) *cli.Command {
		return &cli.Command{
			Name: name, Usage: usage, ArgsUsage: "ID", Flags: clientFlags(),
			Action: func(c *cli.Context) error {
				return askJob(e, c, 1, 1, func(client *api.Client) (api.Job, error) { return action(c, client, c.Args().First()) })
			},
		}
	}
	return &cli.Command{
		Name:  "job",
		Usage: "watch and cancel collections, verifications, prunes and compressions",
		Subcommands: []*cli.Command{
			{
				Name:    "ls",
				Aliases: []string{"list"},
				Usage:   "list what runs and what ended lately, newest first",
				Flags:   clientFlags(),
				Action: func(c *cli.Context) error {
					return ask(e, c, 0, 0, func(client *api.Client) ([]api.Job, error) { return client.Jobs(c.Context) }, showJobs)
				},
			},
			sub("show", "show a job and its result", func(c *cli.Context, client *api.Client, id string) (api.Job, error) {
				return client.Job(c.Context, id, 0)
			}),
			sub("wait", "wait for the end of a job", func(c *cli.Context, client *api.Client, id string) (api.Job, error) {
				j, err := client.Job(c.Context, id, 0)
				if err != nil {
					return j, err
				}
				return follow(c.Context, e, client, j)
			}),
			sub("cancel", "stop a job; what it did until then stays", func(c *cli.Context, client *api.Client, id string) (api.Job, error) {
				return client.CancelJob(c.Context, id)
			}),
		},
	}
}

// askJob is ask for a question whose answer is a job that may be one that failed:
// what is known of it is printed with the error.
func askJob(e *env, c *cli.Context, least, most int, question func(*api.Client) (api.Job, error)) error {
	var failed error
	err := ask(e, c, least, most, func(client *api.Client) (api.Job, error) {
		j, err := question(client)
		if err != nil && j.ID != "" && !j.Running() {
			failed, err = err, nil
		}
		return j, err
	}, showJob)
	if err != nil {
		return err
	}
	return failed
}

func showJobs(w io.Writer, list []api.Job) error {
	t := newTable("JOB", "KIND", "TRIGGER", "STATE", "STARTED", ">TOOK", ">DONE", "LEFT", "RESULT")
	for _, j := range list {
		t.add(j.ID, j.Kind, j.Trigger, j.State, when(j.Started), took(j), progress(j), eta(j), jobResult(j))
	}
	return t.print(w)
}

// showEachJob shows those jobs there are, each below an empty line.
func showEachJob(w io.Writer, jobs ...*api.Job) error {
	for _, j := range jobs {
		if j == nil {
			continue
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
		if err := showJob(w, *j); err != nil {
			return err
		}
	}
	return nil
}

func showJob(w io.Writer, j api.Job) error {
	if err := fields(w, "job", j.ID, "kind", j.Kind, "trigger", j.Trigger, "state", j.State, "phase", j.Phase, "started", when(j.Started),
		"took", took(j), "done", progress(j), "left", eta(j), "error", j.Error); err != nil {
		return err
	}
	switch {
	case j.GC != nil:
		return showCollected(w, *j.GC)
	case j.Verify != nil:
		return showVerified(w, *j.Verify)
	case j.Prune != nil && !j.Running():
		return showPrune(w, *j.Prune)
	case j.Compress != nil:
		return showCompressed(w, *j.Compress)
	}
	return nil
}

func took(j api.Job) string {
	end := j.Ended
	if end.IsZero() {
		end = time.Now()
	}
	return max(end.Sub(j.Started), 0).Round(time.Millisecond).String()
}

func progress(j api.Job) string {
	if j.Total == 0 || !j.Running() {
		return ""
	}
	if j.Unit == "bytes" {
		return units.Human(j.Done) + " of " + units.Human(j.Total)
	}
	return fmt.Sprintf("%d of %d %s", j.Done, j.Total, j.Unit)
}

func eta(j api.Job) string {
	if j.ETASeconds <= 0 {
		return ""
	}
	return (time.Duration(j.ETASeconds*float64(time.Second)) / time.Second * time.Second).String()
}

// jobResult is the result in a few words.
func jobResult(j api.Job) string {
	switch {
	case j.Error != "":
		return j.Error
	case j.GC != nil:
		return units.Human(j.GC.FreedBytes) + " freed"
	case j.Verify != nil:
		return fmt.Sprintf("%s, %s damaged", plural(j.Verify.Packs, "pack"), plural(j.Verify.DamagedBlocks, "block"))
	case j.Prune != nil:
		return fmt.Sprintf("%d kept, %d removed", j.Prune.Kept, j.Prune.Removed)
	case j.Compress != nil:
		return compressSummary(*j.Compress)
	}
	return ""
}
