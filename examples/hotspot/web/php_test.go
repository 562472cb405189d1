package main

import (
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

const dispatchPHP = "../php/dispatch.php"

// Exit codes of dispatch.php.
const (
	phpDispatched = 0
	phpRefused    = 1
	phpTryLater   = 75
)

// php runs PHP as in a pod: with the API server's address, a token and a CA.
type php struct {
	server    string
	tokenFile string
	caFile    string
}

// newPHP returns one for the API server of all tests.
func newPHP(t *testing.T, token string) php {
	t.Helper()
	if _, err := exec.LookPath("php"); err != nil {
		t.Skip("there is no php here, so examples/hotspot/php is not tested: install php-cli")
	}
	return php{server: restConfig.Host, tokenFile: writeFile(t, []byte(token+"\n")), caFile: writeFile(t, restConfig.CAData)}
}

func writeFile(t *testing.T, content []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// run returns the exit code and what was printed.
func (p php) run(t *testing.T, args ...string) (code int, output string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "php", append([]string{"-d", "display_errors=1", "-d", "error_reporting=-1"}, args...)...)
	cmd.Env = append(os.Environ(), "KUBERNETES_API="+p.server, "KUBERNETES_TOKEN_FILE="+p.tokenFile, "KUBERNETES_CA_FILE="+p.caFile)
	text, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode(), string(text)
	}
	if err != nil {
		t.Fatal(err)
	}
	return 0, string(text)
}

// expect runs dispatch.php and says what is different.
func (p php) expect(t *testing.T, tenant, id string, want int, text string) {
	t.Helper()
	if code, output := p.run(t, dispatchPHP, tenant, id); code != want || !strings.Contains(output, text) {
		t.Errorf("payment %s of %s: exit code %d, want %d, and %q: %s", id, tenant, code, want, text, output)
	}
}

// TestPHPDispatch: PHP creates the same TenantJob as Go, once.
func TestPHPDispatch(t *testing.T) {
	t.Parallel()
	p := newPHP(t, appToken)
	tenant := newTenant(t)
	p.expect(t, tenant.Name, "8231", phpDispatched, "dispatched")
	tjs := tenantJobs(t, tenant)
	if len(tjs) != 1 {
		t.Fatalf("%d TenantJobs", len(tjs))
	}
	want := newTenantJob(tenant, "8231")
	if diff := cmp.Diff(want.Spec, tjs[0].Spec); diff != "" || tjs[0].Name != want.Name {
		t.Errorf("%s is not as Go creates it: %s", tjs[0].Name, diff)
	}
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() { p.expect(t, tenant.Name, "8231", phpDispatched, "dispatched") })
	}
	group.Wait()
	expectCode(t, deliver(t, newHandler(app, tenant), tenant, "8231"), http.StatusAccepted)
	if tjs := tenantJobs(t, tenant); len(tjs) != 1 {
		t.Errorf("%d TenantJobs after the same once more", len(tjs))
	}
}

// TestPHPAnswers: what PHP makes of the API server's answers.
func TestPHPAnswers(t *testing.T) {
	t.Parallel()
	p := newPHP(t, appToken)
	tenant := newTenant(t)
	for _, id := range []string{"pending", "0", "08231", "8231\n", "8231/x", "", "1234567890123456789"} {
		p.expect(t, tenant.Name, id, phpRefused, "refused: the id of a payment")
	}
	for _, name := range []string{"", "..", "Acme", "acme\n", "acme/status"} {
		p.expect(t, name, "8231", phpRefused, "refused: this is not the name of a tenant")
	}
	p.expect(t, "nobody", "8231", phpRefused, "refused: there is no tenant nobody")
	if code, output := p.run(t, dispatchPHP); code != 2 {
		t.Errorf("exit code %d without arguments: %s", code, output)
	}

	for id, change := range map[string]func(*v1alpha1.TenantJob){
		"1": func(tj *v1alpha1.TenantJob) { tj.Spec.TenantRef.Name = "another" },
		"2": func(tj *v1alpha1.TenantJob) { tj.Spec.TemplateRef.Name = "disconnect-user" },
		"3": func(tj *v1alpha1.TenantJob) { tj.Spec.Parameters["paymentID"] = "03" }, // equal to PHP's ==
		"4": func(tj *v1alpha1.TenantJob) { tj.Spec.Parameters["simulateFailure"] = "true" },
		"5": func(tj *v1alpha1.TenantJob) { tj.Spec.Parameters = nil },
	} {
		tj := newTenantJob(tenant, id)
		change(tj)
		create(t, tj)
		p.expect(t, tenant.Name, id, phpRefused, "refused: there is a TenantJob "+tj.Name+" with another")
	}
	held := newTenantJob(tenant, "6")
	held.Finalizers = []string{"example.com/held"}
	create(t, held)
	if err := admin.Delete(t.Context(), held); err != nil {
		t.Fatal(err)
	}
	p.expect(t, tenant.Name, "6", phpTryLater, "try later: TenantJob "+held.Name+" is being deleted")

	waiting := newTenant(t)
	namespace := waiting.Status.Namespace.Name
	waiting.Status.Namespace = nil
	if err := admin.Status().Update(t.Context(), waiting); err != nil {
		t.Fatal(err)
	}
	p.expect(t, waiting.Name, "8231", phpTryLater, "has no namespace yet")
	waiting.Status.Namespace = &v1alpha1.TenantNamespaceStatus{Name: namespace, UID: "x"}
	if err := admin.Status().Update(t.Context(), waiting); err != nil {
		t.Fatal(err)
	}
	if err := admin.Delete(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}); err != nil {
		t.Fatal(err)
	}
	p.expect(t, waiting.Name, "8231", phpTryLater, "because it is being terminated")

	newPHP(t, strangerToken).expect(t, tenant.Name, "8231", phpRefused, `403: tenants.tenantry.dev "`+tenant.Name+`" is forbidden`)
	newPHP(t, "x").expect(t, tenant.Name, "8231", phpRefused, "401: Unauthorized")

	code, output := p.run(t, "-r", `require "`+dispatchPHP+`";
		Hotspot\Dispatcher::fromEnvironment()->dispatch("`+tenant.Name+`", "process-payment", str_repeat("x", 64), []);`)
	if code == 0 || !strings.Contains(output, "Hotspot\\Refused: the API server answers with 422") ||
		!strings.Contains(output, "must be a DNS-1123 label of at most 63 characters") {
		t.Errorf("exit code %d for a name that is too long: %s", code, output)
	}
	code, output = p.run(t, "-r", `require "`+dispatchPHP+`";
		$dispatcher = Hotspot\Dispatcher::fromEnvironment();
		$dispatcher->dispatch("`+tenant.Name+`", "update-dashboard-stats", "stats", []);
		$dispatcher->dispatch("`+tenant.Name+`", "update-dashboard-stats", "stats", []);`)
	if code != 0 {
		t.Errorf("exit code %d without parameters: %s", code, output)
	}
}

// TestPHPNewToken: each request has the token that is in the file then.
func TestPHPNewToken(t *testing.T) {
	t.Parallel()
	p := newPHP(t, "token-1")
	var got []string
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.Method+" "+r.Header.Get("Authorization"))
		if err := os.WriteFile(p.tokenFile, fmt.Appendf(nil, "token-%d", len(got)+1), 0o600); err != nil {
			t.Error(err)
		}
		if r.Method == http.MethodPost {
			w.WriteHeader(http.StatusCreated)
		}
		_, _ = io.WriteString(w, `{"status":{"namespace":{"name":"tenant-acme"}}}`)
	}))
	defer server.Close()
	p.server, p.caFile = server.URL, writeFile(t, certificate(server))
	p.expect(t, "acme", "8231", phpDispatched, "dispatched")
	if want := []string{"GET Bearer token-1", "POST Bearer token-2"}; !slices.Equal(got, want) {
		t.Errorf("it sent %q, want %q", got, want)
	}
}

func certificate(server *httptest.Server) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
}

// TestPHPTrouble: what is to be tried again, and that nothing is sent to a server that does not prove to be the right one.
func TestPHPTrouble(t *testing.T) {
	t.Parallel()
	p := newPHP(t, "secret")
	for name, tt := range map[string]struct {
		code int
		body string
		want int
		text string
	}{
		"overloaded":         {code: 429, body: "Too many requests, please try again later.\n", want: phpTryLater, text: "429"},
		"throttled":          {code: 429, body: `{"message":"wait"}`, want: phpTryLater, text: "429: wait"},
		"shutting down":      {code: 503, body: `{"message":"shutting down"}`, want: phpTryLater, text: "503: shutting down"},
		"an internal error":  {code: 500, body: `{"message":"etcd"}`, want: phpTryLater, text: "500: etcd"},
		"a changed quota":    {code: 409, body: `{"reason":"Conflict","message":"quota"}`, want: phpTryLater, text: "409: quota"},
		"a full quota":       {code: 403, body: `{"reason":"Forbidden","message":"exceeded quota"}`, want: phpRefused, text: "403: exceeded quota"},
		"half an answer":     {code: 200, body: `{"status":{"namespace"`, want: phpTryLater, text: "no answer"},
		"a redirect":         {code: 302, body: `{}`, want: phpRefused, text: "302"},
		"no JSON in a proxy": {code: 403, body: "<html>", want: phpTryLater, text: "403"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", p.server)
				w.WriteHeader(tt.code)
				_, _ = io.WriteString(w, tt.body)
			}))
			defer server.Close()
			p := p
			p.server, p.caFile = server.URL, writeFile(t, certificate(server))
			p.expect(t, "acme", "8231", tt.want, tt.text)
		})
	}

	stranger := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request to a stranger") }))
	stranger.Config.ErrorLog = log.New(io.Discard, "", 0)
	stranger.StartTLS()
	impostor := p
	impostor.server = stranger.URL
	impostor.expect(t, "acme", "8231", phpTryLater, "certificate verify failed")
	stranger.Close()
	impostor.expect(t, "acme", "8231", phpTryLater, "Connection refused")
	impostor.tokenFile = "/nonexistent"
	impostor.expect(t, "acme", "8231", phpRefused, "the token in /nonexistent can't be read")
}
