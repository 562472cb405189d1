// Command hotspot is the sample application: the background work of a billing system for WiFi hotspots, one subcommand
// for each of its jobs. What it knows of its tenant it has from its environment and from nowhere else.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// What went wrong decides the exit code.
var (
	// Without a tenant, or with parameters that make no sense; trying again is no use.
	errRefused = errors.New("refused")
	errStopped = errors.New("stopped by a signal before it was done")
)

const (
	exitFailed  = 1
	exitRefused = 2
	exitStopped = 128 + int(syscall.SIGTERM)
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], parseEnvironment(os.Environ()), time.Now(), os.Stdout)
	stop()
	os.Exit(code)
}

// run performs one subcommand and says how it ended, as an exit code and in the last line of its log.
func run(ctx context.Context, args []string, env environment, now time.Time, out io.Writer) int {
	if len(args) != 1 {
		printUsage(out)
		return exitRefused
	}
	log := newLogger(out).With("tenant", env["TENANT_NAME"], "command", args[0])

	err := perform(ctx, args[0], env, now, out, log)
	var asked askedExit
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errRefused):
		log.Error(err.Error())
		return exitRefused
	case errors.Is(err, errStopped):
		log.Warn(err.Error())
		return exitStopped
	case errors.As(err, &asked):
		log.Error(err.Error())
		return int(asked)
	default:
		log.Error(err.Error())
		return exitFailed
	}
}

func perform(
	ctx context.Context, command string, env environment, now time.Time, out io.Writer, log *slog.Logger,
) error {
	switch command {
	case "help":
		printUsage(out)
		return nil
	case "probe":
		return newProber().probe(ctx, env, out)
	case "listen":
		return listen(ctx, env, log)
	case "end":
		return end(ctx, env, log)
	case "sql":
		return executeSQL(ctx, env, out)
	}
	i := slices.IndexFunc(jobs, func(j job) bool { return j.name == command })
	if i < 0 {
		return fmt.Errorf("%w: there is no subcommand %q, see help", errRefused, command)
	}
	return jobs[i].execute(ctx, env, now, log)
}

// newLogger writes a line for each message, without the time: the cluster's log has it.
func newLogger(out io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	}))
}

func printUsage(out io.Writer) {
	names := make([]string, 0, len(jobs))
	for _, j := range jobs {
		names = append(names, "  "+j.name)
	}
	// Nobody is left to tell when the output is closed.
	_, _ = fmt.Fprintf(out, `usage: hotspot SUBCOMMAND

Jobs, each for the tenant in its environment:
%s

For tests:
  probe   says what the pod was given and what it can reach, as JSON
  listen  accepts TCP connections, and sends UDP datagrams back
  end     ends as its environment asks
  sql     executes the statements in its environment, and says what became of each, as JSON
`, strings.Join(names, "\n"))
}
