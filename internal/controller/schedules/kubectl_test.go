package schedules_test

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/onsi/gomega"

	"github.com/tenantry/tenantry/api/v1alpha1"
	. "github.com/tenantry/tenantry/internal/controller/operatortest"
	"github.com/tenantry/tenantry/internal/schedule"
)

// TestTenantScheduleRunNow runs the command that docs/schedules.md gives for it.
func TestTenantScheduleRunNow(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../../docs/schedules.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(doc), "## Run it now")
	_, rest, _ = strings.Cut(rest, "```sh\n")
	command, _, found := strings.Cut(rest, "```")
	if !found || !strings.Contains(command, "NAME") {
		t.Fatal("docs/schedules.md gives no command with a NAME")
	}
	for name, change := range map[string]func(*v1alpha1.TenantSchedule){
		"as it is": func(*v1alpha1.TenantSchedule) {},
		"with all that there is, suspended": func(ts *v1alpha1.TenantSchedule) {
			ts.Spec.Suspend = new(true)
			ts.Spec.FanOutTemplate.Metadata = &v1alpha1.FanOutTemplateMetadata{Labels: map[string]v1alpha1.LabelValue{"tag.tenantry.dev/what": "bills"}}
			ts.Spec.FanOutTemplate.Spec.Parameters = map[string]v1alpha1.ParameterValue{"text": "{\"a\": 'b'}\nand: more # too"}
			ts.Spec.FanOutTemplate.Spec.Tenants = v1alpha1.TenantSelection{Names: []v1alpha1.TenantName{"acme", "globex"}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ts := NewSchedule(t, "@yearly", change)
			said := Shell(t, strings.ReplaceAll(command, "NAME", ts.Name))
			made, ok := strings.CutPrefix(strings.TrimSuffix(said, " created\n"), "tenantfanout.tenantry.dev/")
			if !ok {
				t.Fatalf("it said %q", said)
			}
			g := gomega.NewWithT(t)
			fanOut := &v1alpha1.TenantFanOut{}
			fanOut.Name = made
			Get(t, g, fanOut)
			t.Cleanup(func() { _ = Admin.Delete(context.Background(), fanOut) })
			g.Expect(made).To(gomega.HavePrefix(ts.Name + "-now-"))
			g.Expect(fanOut.Spec).To(gomega.Equal(ts.Spec.FanOutTemplate.Spec))
			if template := ts.Spec.FanOutTemplate.Metadata; template != nil {
				g.Expect(fanOut.Labels).To(gomega.HaveKeyWithValue("tag.tenantry.dev/what", "bills"))
			}
			g.Expect(fanOut.OwnerReferences).To(gomega.BeEmpty())
		})
	}
}

// TestTenantScheduleColumns is what a person sees who types kubectl get.
func TestTenantScheduleColumns(t *testing.T) {
	WithoutOperator(t)
	ts := since(t, NewSchedule(t, "0 * * * *"), "2020-08-03 09:30")
	// The age of the last tick depends on the day. What is not set is blank.
	age := regexp.MustCompile(`^[0-9]+y[0-9]*d?$`)
	row := func(want string) {
		t.Helper()
		Eventually(t, func(g gomega.Gomega) {
			fields := strings.Fields(strings.Replace(Shell(t, "kubectl get tsch --no-headers "+ts.Name), "0 * * * *", "HOURLY", 1))
			for i, field := range fields {
				fields[i] = age.ReplaceAllString(field, "AGE")
			}
			g.Expect(strings.Join(fields[1:], " ")).To(gomega.Equal(want))
		})
	}
	s := startScheduler(t, ts, "2020-08-03 09:31")
	touch(t, ts)
	row("HOURLY NeverRun 2020-08-03T10:00:00Z")
	s.turn(t, "2020-08-03 10:00")
	row("HOURLY AGE Running 2020-08-03T11:00:00Z")
	endFanOut(t, schedule.TickName(ts.Name, at(t, "2020-08-03 10:00")), IsFalse, v1alpha1.ReasonTooManyFailed, at(t, "2020-08-03 10:01"))
	row("HOURLY AGE TooManyFailed 2020-08-03T11:00:00Z")
	Patch(t, ts, suspended(true))
	row("HOURLY AGE TooManyFailed 2020-08-03T11:00:00Z true")
	if header := strings.Fields(Shell(t, "kubectl get tsch "+ts.Name)); fmt.Sprint(header[:6]) != "[NAME SCHEDULE LAST LAST-RESULT NEXT SUSPENDED]" {
		t.Error(header)
	}
}
