package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// ending is how a process ends that a test has asked for.
type ending struct {
	memory    int    // of so many MiB
	written   int    // so many MiB, to a file
	directory string // of the file
	lasts     time.Duration
	signal    int
	exitCode  int
}

// askedExit is the exit code that a test has asked for.
type askedExit int

func (e askedExit) Error() string {
	return fmt.Sprintf("exits with %d, as EXIT_CODE told it to", int(e))
}

// end ends as its environment asks, so that a test can see what the cluster says about it.
func end(ctx context.Context, env environment, log *slog.Logger) error {
	e, err := readEnding(env)
	if err != nil {
		return err
	}
	memory := allocate(e.memory)
	defer runtime.KeepAlive(memory)
	if e.written > 0 {
		if err := write(e.directory, e.written); err != nil {
			return err
		}
	}
	log.Info("ready to end", "memoryMebibytes", e.memory, "writtenMebibytes", e.written)
	if err := wait(ctx, e.lasts); err != nil {
		return err
	}
	switch {
	case e.signal != 0:
		return endBy(ctx, syscall.Signal(e.signal))
	case e.exitCode != 0:
		return askedExit(e.exitCode)
	}
	return nil
}

func readEnding(env environment) (ending, error) {
	p := &parameters{env: env}
	e := ending{
		memory: p.count("ALLOCATE_MEBIBYTES"), written: p.count("WRITE_MEBIBYTES"), lasts: p.seconds("RUN_SECONDS"),
		signal: p.count("SIGNAL"), exitCode: p.count("EXIT_CODE"),
	}
	if e.written > 0 {
		e.directory = p.text("WRITE_DIRECTORY")
	}
	return e, p.err()
}

const mebibyte = 1 << 20

// allocate returns memory that is in use: the kernel gives a page when it is first written to.
func allocate(mebibytes int) []byte {
	memory := make([]byte, mebibytes*mebibyte)
	for i := 0; i < len(memory); i += os.Getpagesize() {
		memory[i] = 1
	}
	return memory
}

func write(directory string, mebibytes int) error {
	file, err := os.Create(filepath.Join(directory, "written"))
	if err != nil {
		return err
	}
	block := make([]byte, mebibyte)
	for range mebibytes {
		if _, err := file.Write(block); err != nil {
			_ = file.Close()
			return err
		}
	}
	return file.Close()
}

// endBy ends the process by a signal. The kernel ignores a signal that process 1 of a container sends to itself, so the pod needs
// `shareProcessNamespace`. Go makes an exit with 2 of the signals of a crash, such as SIGSEGV.
func endBy(ctx context.Context, s syscall.Signal) error {
	signal.Reset(s)
	if err := syscall.Kill(os.Getpid(), s); err != nil {
		return fmt.Errorf("sending signal %d: %w", int(s), err)
	}
	const delivery = 5 * time.Second
	if err := wait(ctx, delivery); err != nil {
		return err
	}
	return fmt.Errorf("signal %d did not end process %d", int(s), os.Getpid())
}
