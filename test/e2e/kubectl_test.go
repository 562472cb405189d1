package e2e

import (
	"bytes"
	"cmp"
	"context"
	"os"
	"os/exec"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

var _ = Describe("A person with kubectl", func() {
	It("sees how tenants and their jobs stand, and can wait for them", func(ctx SpecContext) {
		template := givenTemplate(ctx, "check-expired-sessions", func(spec *v1alpha1.TenantJobTemplateSpec) {
			spec.Parameters = append(spec.Parameters, v1alpha1.Parameter{Name: "payment", Tag: new(true)})
		})
		acme := givenTenant(ctx, "acme", v1alpha1.TenantSpec{})
		namespace := acme.NamespaceName()
		done := dispatch(ctx, acme, template, "done", parameters{"payment": v1alpha1.ParameterValue(acme.Name)})

		kubectl(ctx, "wait", "tenantjob/"+done.Name, "--namespace", namespace, "--for", "condition=Succeeded", "--timeout", "60s")
		failed := dispatch(ctx, acme, template, "failed", parameters{"simulateFailure": "true"})
		kubectl(ctx, "wait", "tj/"+failed.Name, "--namespace", namespace, "--for", "condition=Succeeded=False", "--timeout", "60s")
		kubectl(ctx, "wait", "tenant/"+acme.Name, "--for", "condition=Ready", "--timeout", "60s")

		lines := table(kubectl(ctx, "get", "tenantjobs", "--namespace", namespace))
		Expect(lines).To(HaveLen(3))
		Expect(lines[0]).To(Equal([]string{"NAME", "TENANT", "TEMPLATE", "STATUS", "AGE"}))
		Expect(lines[1][:4]).To(Equal([]string{"done", acme.Name, template.Name, "Completed"}))
		Expect(lines[2][:4]).To(Equal([]string{"failed", acme.Name, template.Name, "JobFailed"}))
		Expect(kubectl(ctx, "get", "tj", "--namespace", namespace, "--output", "wide")).To(And(
			ContainSubstring("MESSAGE"), ContainSubstring("exited with code 1")))
		Expect(kubectl(ctx, "get", "tenantjobs", "--all-namespaces", "--selector", v1alpha1.TagPrefix+"payment="+acme.Name, "--output", "name")).
			To(Equal("tenantjob.tenantry.dev/done\n"))

		lines = table(kubectl(ctx, "get", "tenants", acme.Name))
		Expect(lines[0]).To(Equal([]string{"NAME", "NAMESPACE", "STATE", "READY", "RUNNING", "AGE"}))
		Expect(lines[1][:4]).To(Equal([]string{acme.Name, namespace, v1alpha1.StateActive, "True"}))
		Expect(kubectl(ctx, "get", "tenantry", "--all-namespaces", "--output", "name")).To(And(
			ContainSubstring("tenant.tenantry.dev/"+acme.Name), ContainSubstring("tenantjob.tenantry.dev/done"),
			ContainSubstring("tenantjobtemplate.tenantry.dev/"+template.Name)))
	})
})

// kubectl runs kubectl on the cluster that is tested, and returns its output.
func kubectl(ctx context.Context, args ...string) string {
	GinkgoHelper()
	command := kubectlCommand(ctx, args...)
	var printed, complained bytes.Buffer
	command.Stdout, command.Stderr = &printed, &complained
	Expect(command.Run()).To(Succeed(), "kubectl %s: %s", strings.Join(args, " "), &complained)
	return printed.String()
}

func kubectlCommand(ctx context.Context, args ...string) *exec.Cmd {
	GinkgoHelper()
	path, err := exec.LookPath(cmp.Or(os.Getenv("KUBECTL"), "kubectl"))
	Expect(err).NotTo(HaveOccurred(), "There is no kubectl: install one, let KUBECTL name it, or run `make test-e2e`.")
	return exec.CommandContext(ctx, path, args...)
}

// table splits the output of `kubectl get` into lines and cells.
func table(printed string) [][]string {
	var lines [][]string
	for line := range strings.Lines(printed) {
		lines = append(lines, strings.Fields(line))
	}
	return lines
}
