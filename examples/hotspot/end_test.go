package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestEnd(t *testing.T) {
	directory := t.TempDir()
	tests := map[string]struct {
		env      environment
		wantCode int
		wantLog  string // its last line, without the tenant and command
	}{
		"well, when nothing is asked for": {
			wantLog: `level=INFO msg="ready to end"`,
		},
		"with an exit code": {
			env:      environment{"EXIT_CODE": "3"},
			wantCode: 3,
			wantLog:  `level=ERROR msg="exits with 3, as EXIT_CODE told it to"`,
		},
		"with an exit code that has a meaning of its own": {
			env:      environment{"EXIT_CODE": "143"},
			wantCode: 143,
			wantLog:  `level=ERROR msg="exits with 143, as EXIT_CODE told it to"`,
		},
		"after it has used memory and disk": {
			env:     environment{"ALLOCATE_MEBIBYTES": "2", "WRITE_MEBIBYTES": "3", "WRITE_DIRECTORY": directory},
			wantLog: `level=INFO msg="ready to end"`,
		},
		"when it can't write": {
			env:      environment{"WRITE_MEBIBYTES": "3", "WRITE_DIRECTORY": filepath.Join(directory, "absent")},
			wantCode: exitFailed,
			wantLog:  `level=ERROR msg="open ` + filepath.Join(directory, "absent", "written") + `: no such file or directory"`,
		},
		"refused, when it makes no sense": {
			env:      environment{"EXIT_CODE": "-1", "SIGNAL": "KILL", "WRITE_MEBIBYTES": "1"},
			wantCode: exitRefused,
			wantLog: `level=ERROR msg="refused: SIGNAL is no whole number: \"KILL\"; EXIT_CODE is no whole number: \"-1\";` +
				` WRITE_DIRECTORY is not set"`,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			if code := run(t.Context(), []string{"end"}, tc.env, now, &out); code != tc.wantCode {
				t.Errorf("exit code %d, want %d; output %s", code, tc.wantCode, out.String())
			}
			lines := strings.Split(strings.TrimSpace(out.String()), "\n")
			if last := lines[len(lines)-1]; !strings.HasPrefix(last, tc.wantLog) {
				t.Errorf("logged\n%s\nwant it to begin with\n%s", last, tc.wantLog)
			}
		})
	}
	if written, err := os.Stat(filepath.Join(directory, "written")); err != nil || written.Size() != 3*mebibyte {
		t.Errorf("wrote %v, error %v; want 3 MiB", written, err)
	}
}

// TestAllocate: every page is written to, since only then it counts against a limit.
func TestAllocate(t *testing.T) {
	memory := allocate(2)
	if len(memory) != 2*mebibyte {
		t.Errorf("allocated %d bytes, want 2 MiB", len(memory))
	}
	for i := 0; i < len(memory); i += os.Getpagesize() {
		if memory[i] == 0 {
			t.Fatalf("the page at %d is untouched", i)
		}
	}
}

// TestEndBySignal runs itself as another process, which the signal ends.
func TestEndBySignal(t *testing.T) {
	const inside = "END_BY_SIGNAL"
	if number := os.Getenv(inside); number != "" {
		os.Exit(run(t.Context(), []string{"end"}, environment{"SIGNAL": number}, now, os.Stdout))
	}
	for number, want := range map[string]syscall.Signal{"9": syscall.SIGKILL, "15": syscall.SIGTERM} {
		t.Run(want.String(), func(t *testing.T) {
			command := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestEndBySignal$")
			command.Env = append(os.Environ(), inside+"="+number)
			output, err := command.Output()
			var exit *exec.ExitError
			if !errors.As(err, &exit) {
				t.Fatalf("ended with %v, want signal %v; output %s", err, want, output)
			}
			if status, ok := exit.Sys().(syscall.WaitStatus); !ok || !status.Signaled() || status.Signal() != want {
				t.Errorf("ended with %v, want signal %v; output %s", err, want, output)
			}
		})
	}
}
