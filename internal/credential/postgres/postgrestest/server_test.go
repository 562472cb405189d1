package postgrestest

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// roleVariable makes this test binary start a server and wait to be killed.
const roleVariable = "POSTGRESTEST_WAIT"

func TestMain(m *testing.M) {
	if os.Getenv(roleVariable) == "" {
		os.Exit(m.Run())
	}
	s, err := Start()
	if err != nil {
		panic(err)
	}
	fmt.Println(s.dir, s.Port)
	select {}
}

func TestServer(t *testing.T) {
	s, err := Start()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Remove()
	var encrypted bool
	query := "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
	if err := s.Admin(t, "postgres").QueryRow(t.Context(), query).Scan(&encrypted); err != nil || !encrypted {
		t.Errorf("encrypted: %t, error: %v", encrypted, err)
	}
	s.Exec(t, "postgres", "CREATE TABLE kept ()")
	s.Crash()
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	s.Exec(t, "postgres", "SELECT FROM kept")
	s.Remove()
	if _, err := os.Stat(s.dir); !os.IsNotExist(err) {
		t.Errorf("the folder is still there: %v", err)
	}
}

// The server ends with the test process, however that ends.
func TestServerOfKilledProcess(t *testing.T) {
	process := exec.Command(os.Args[0])
	process.Env = append(os.Environ(), roleVariable+"=yes")
	process.Stderr = os.Stderr
	stdout, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	var (
		dir  string
		port int
	)
	line, _ := bufio.NewReader(stdout).ReadString('\n')
	if _, err := fmt.Sscan(line, &dir, &port); err != nil {
		t.Fatalf("reading %q: %v", line, err)
	}
	// The server holds this session. When the session ends, the server has seen its own end.
	session, err := net.Dial("tcp", net.JoinHostPort(Host, strconv.Itoa(port)))
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	if err := process.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = process.Wait()
	if _, err := session.Read(make([]byte, 1)); err == nil {
		t.Error("the server has answered to nothing")
	}
	// Then the shell removes the folder.
	for _, err := os.Stat(dir); err == nil; _, err = os.Stat(dir) {
		runtime.Gosched()
	}
}

// What a user without any PostgreSQL reads is one sentence.
func TestMissingPostgres(t *testing.T) {
	command := exec.Command("../../../../hack/postgres.sh")
	command.Env = append(os.Environ(), "POSTGRES_BIN="+t.TempDir())
	out, err := command.CombinedOutput()
	want := "PostgreSQL 16 or newer is needed, and POSTGRES_BIN does not have it: install it, or npm, or set POSTGRES_BIN to the " +
		"folder with initdb and postgres."
	if err == nil || strings.TrimSpace(string(out)) != want {
		t.Errorf("error %v, output:\n%s", err, out)
	}
}

// A connection without TLS is accepted too, for the tests of the mode disable.
func TestWithoutTLS(t *testing.T) {
	s, err := Start()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Remove()
	config := s.Config("postgres", Superuser, s.Password)
	config.TLSConfig = nil
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close(context.Background())
}
