package main

import (
	"bufio"
	"context"
	"encoding/json"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestProbe(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path != "/api/v1/namespaces/tenant-acme/secrets":
			w.WriteHeader(http.StatusNotFound)
		case r.Header.Get("Authorization") == "":
			w.WriteHeader(http.StatusUnauthorized)
		case r.Header.Get("Authorization") != "Bearer a-token":
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	defer server.Close()
	open := server.Listener.Addr().String()
	host, port, err := net.SplitHostPort(open)
	if err != nil {
		t.Fatal(err)
	}
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	env := environment{
		"TENANT_NAME": "acme", "TENANTRY_NAMESPACE": "tenant-acme",
		"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port,
	}
	names := []string{"KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "TENANTRY_NAMESPACE", "TENANT_NAME"}

	tests := map[string]struct {
		mounted map[string][]byte
		env     environment
		want    report
	}{
		"no token": {
			env: env,
			want: report{
				Tenant: "acme", Environment: names,
				APIServer: apiServer{Address: open, Status: http.StatusUnauthorized}, Connections: []connection{},
			},
		},
		"a token": {
			mounted: map[string][]byte{"token": []byte("a-token\n"), "ca.crt": authority},
			env:     env,
			want: report{
				Tenant: "acme", Environment: names, TokenMounted: true,
				APIServer: apiServer{Address: open, Status: http.StatusOK}, Connections: []connection{},
			},
		},
		"a token goes to nobody who is not known": {
			mounted: map[string][]byte{"token": []byte("a-token\n"), "ca.crt": nil},
			env:     env,
			want: report{
				Tenant: "acme", Environment: names, TokenMounted: true,
				APIServer: apiServer{
					Address: open, Error: "reading the cluster's authority: no certificate in it",
				},
				Connections: []connection{},
			},
		},
		"connections": {
			env: env.with(environment{"PROBE_CONNECT": open + ", 127.0.0.1:99999, udp/127.0.0.1:99999"}),
			want: report{
				Tenant:      "acme",
				Environment: append([]string{names[0], names[1], "PROBE_CONNECT"}, names[2:]...),
				APIServer:   apiServer{Address: open, Status: http.StatusUnauthorized},
				Connections: []connection{
					{Address: open, Connected: true},
					{Address: "127.0.0.1:99999", Error: "dial tcp: address 99999: invalid port"},
					{Address: "udp/127.0.0.1:99999", Error: "dial udp: address 99999: invalid port"},
				},
			},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for name, content := range tc.mounted {
				if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var out strings.Builder
			if err := (prober{tokenDir: dir, timeout: 10 * time.Second}).probe(t.Context(), tc.env, &out); err != nil {
				t.Fatal(err)
			}
			var got report
			if err := json.Unmarshal([]byte(out.String()), &got); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got\n%+v\nwant\n%+v", got, tc.want)
			}
			if strings.Count(out.String(), "\n") != 1 || strings.Contains(out.String(), "a-token") {
				t.Errorf("want one line without the token, got %q", out.String())
			}
		})
	}
}

func TestListen(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	reader, writer := io.Pipe()
	code := make(chan int, 1)
	go func() {
		env := environment{"TENANT_NAME": "acme", "LISTEN_ADDRESS": "127.0.0.1:0"}
		code <- run(ctx, []string{"listen"}, env, now, writer)
		_ = writer.Close()
	}()
	log := bufio.NewScanner(reader)
	next := func(prefix string) string {
		t.Helper()
		log.Scan()
		rest, ok := strings.CutPrefix(log.Text(), prefix)
		if !ok {
			t.Fatalf("logged %q, want it to begin with %q", log.Text(), prefix)
		}
		return rest
	}

	address := next(`level=INFO msg=listening tenant=acme command=listen address=`)
	if got := (prober{timeout: 10 * time.Second}).connect(ctx, address); !got.Connected {
		t.Errorf("connecting: %s", got.Error)
	}
	if got := (prober{timeout: 10 * time.Second}).connect(ctx, "udp/"+address); !got.Connected {
		t.Errorf("asking by UDP: %s", got.Error)
	}
	next(`level=INFO msg=accepted tenant=acme command=listen from=127.0.0.1:`)
	cancel()
	next(`level=WARN msg="stopped by a signal before it was done"`)
	if got := <-code; got != exitStopped {
		t.Errorf("exit code %d, want %d", got, exitStopped)
	}
}

func TestListenForSomeTime(t *testing.T) {
	var out strings.Builder
	env := environment{"LISTEN_ADDRESS": "127.0.0.1:0", "RUN_SECONDS": "1"}
	if code := run(t.Context(), []string{"listen"}, env, now, &out); code != 0 {
		t.Errorf("exit code %d, want 0; output %s", code, out.String())
	}
}
