package credentials_test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
)

// TestMovingToRolesOfRuns does what docs/moving.md says, so that its commands and fields are valid. It changes all Tenants, and so is not
// parallel.
func TestMovingToRolesOfRuns(t *testing.T) {
	page, err := os.ReadFile("../../../docs/moving.md")
	if err != nil {
		t.Fatal(err)
	}
	source := NewSource(t)
	awaitProvider(t, source.Provider, metav1.ConditionTrue, v1alpha1.ReasonReady, "")
	Eventually(t, func(g gomega.Gomega) { // Those of earlier tests are gone.
		var all v1alpha1.TenantList
		g.Expect(Admin.List(t.Context(), &all)).To(gomega.Succeed())
		g.Expect(all.Items).To(gomega.BeEmpty())
	})
	tenant := NewReadyTenant(t, v1alpha1.TenantSpec{})
	FinishAll(t, tenant)
	template := NewReadyTemplate(t, func(o *v1alpha1.TenantJobTemplate) { PodSpec(o).Containers[0].Name = "job" })
	_, section, _ := strings.Cut(string(page), "\n## A database role for each run\n")
	section = strings.NewReplacer(
		"billing-db", source.Provider.Name, "close-idle-sessions-roles", template.Name+"-roles", "close-idle-sessions", template.Name, "acme", tenant.Name,
	).Replace(section)
	blocks := regexp.MustCompile("(?ms)^```(sh|yaml)\n(.*?)^```").FindAllStringSubmatch(section, -1)
	issued := ""
	for _, b := range blocks {
		if b[1] == "sh" {
			if output := Shell(t, b[2]); strings.Contains(b[2], "status.credentials}") {
				issued = output
			}
			continue
		}
		applyPart(t, template, b[2])
		AwaitReadiness(t, template, metav1.ConditionTrue, v1alpha1.ReasonReady, "")
	}
	_, issued, _ = strings.Cut(issued, "[")
	var times []v1alpha1.CredentialStatus
	if err := json.Unmarshal([]byte("["+issued), &times); err != nil || len(times) != 1 || times[0].RevocationTime == nil {
		t.Errorf("the commands said [%s, want the times of a credential", issued)
	}
	if len(blocks) != 6 {
		t.Errorf("the page has %d blocks, and 6 were known", len(blocks))
	}
	want := []v1alpha1.TemplateCredential{{Name: "database", Env: []v1alpha1.CredentialEnv{
		{Name: "DB_HOST", Key: "host"}, {Name: "DB_PORT", Key: "port"}, {Name: "DB_DATABASE", Key: "database"},
		{Name: "DB_USERNAME", Key: "username"}, {Name: "DB_PASSWORD", Key: "password"}, {Name: "DB_SSLMODE", Key: "sslmode"},
	}}}
	if diff := cmp.Diff(want, template.Spec.Credentials); diff != "" {
		t.Errorf("the template's credentials (-want +got):\n%s", diff)
	}
}

// applyPart changes a template as a person does who adds a part of the page to its file. The variables of a container stand alone there.
func applyPart(t *testing.T, template *v1alpha1.TenantJobTemplate, part string) {
	t.Helper()
	if strings.HasPrefix(part, " ") {
		part = "spec:\n  jobTemplate:\n    spec:\n      template:\n        spec:\n          containers:\n          - name: job\n" + part
	}
	// Each part has a field manager of its own, so that the next one does not remove it.
	Shell(t, fmt.Sprintf("kubectl apply --server-side --force-conflicts --validate=strict --field-manager=part-%d -f - <<'EOF'\n"+
		"apiVersion: tenantry.dev/v1alpha1\nkind: TenantJobTemplate\nmetadata: {name: %s}\n%sEOF", Serial.Add(1), template.Name, part))
}
