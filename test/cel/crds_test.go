package cel_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// A CustomResourceDefinition must fit into one request beside what the API server adds, for those who apply it the
// client's way too.
const largestCRD = 300_000

func TestCRDsAreServed(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(crdDir, "*.yaml"))
	if err != nil || len(files) != len(minimal) {
		t.Fatalf("got %d files, want one for each of %d kinds: %v", len(files), len(minimal), err)
	}
	for _, file := range files {
		crd := decodeFile[apiextensionsv1.CustomResourceDefinition](file)
		t.Run(crd.Spec.Names.Kind, func(t *testing.T) {
			info, err := os.Stat(file)
			if err != nil || info.Size() >= largestCRD {
				t.Errorf("%s has %d bytes, want less than %d: %v", file, info.Size(), largestCRD, err)
			}
			manifest := crd.DeepCopy()
			if err := kube.Get(t.Context(), client.ObjectKeyFromObject(crd), crd); err != nil {
				t.Fatal(err)
			}
			before := crd.ResourceVersion
			for condition, want := range map[apiextensionsv1.CustomResourceDefinitionConditionType]bool{
				apiextensionsv1.Established: true, apiextensionsv1.NamesAccepted: true,
				apiextensionsv1.NonStructuralSchema: false, apiextensionsv1.Terminating: false,
			} {
				if got := conditionTrue(crd, condition); got != want {
					t.Errorf("%s is %v, want %v", condition, got, want)
				}
			}
			if err := applyCRD(t.Context(), manifest); err != nil {
				t.Fatal(err)
			}
			if err := kube.Get(t.Context(), client.ObjectKeyFromObject(crd), crd); err != nil || crd.ResourceVersion != before {
				t.Errorf("applying it again changed it: %v", err)
			}
		})
	}
	for _, warning := range installWarnings {
		t.Errorf("the API server warned: %s", warning)
	}
}

func TestNames(t *testing.T) {
	var resources metav1.APIResourceList
	getJSON(t, "/apis/"+v1alpha1.GroupVersion.String(), "application/json", &resources)
	type names struct {
		Kind, Singular string
		ShortNames     []string
		Categories     []string
		Namespaced     bool
	}
	got := map[string]names{}
	for _, r := range resources.APIResources {
		if !strings.Contains(r.Name, "/") {
			got[r.Name] = names{r.Kind, r.SingularName, r.ShortNames, r.Categories, r.Namespaced}
		}
	}
	category := []string{"tenantry"}
	want := map[string]names{
		"tenants":             {"Tenant", "tenant", nil, category, false},
		"tenantjobtemplates":  {"TenantJobTemplate", "tenantjobtemplate", []string{"tjt"}, category, false},
		"tenantjobs":          {"TenantJob", "tenantjob", []string{"tj"}, category, true},
		"tenantfanouts":       {"TenantFanOut", "tenantfanout", []string{"tfo"}, category, false},
		"tenantschedules":     {"TenantSchedule", "tenantschedule", []string{"tsch"}, category, false},
		"tenantqueues":        {"TenantQueue", "tenantqueue", []string{"tq"}, category, false},
		"credentialproviders": {"CredentialProvider", "credentialprovider", []string{"credp"}, category, false},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("resources (-want +got):\n%s", diff)
	}
}

// What `kubectl get` prints. Columns that only -o wide shows are in brackets.
func TestColumns(t *testing.T) {
	next := "2026-11-24T02:00:00Z"
	ago := time.Now().Add(-3 * time.Hour).UTC().Format(time.RFC3339)
	condition := func(kind, status, reason, message string) string {
		return `{type: ` + kind + `, status: "` + status + `", reason: ` + reason + `, message: "` + message +
			`", lastTransitionTime: "` + ago + `"}`
	}
	cases := map[string]struct {
		path, status string
		spec         map[string]string
		columns      string
		cells        string
	}{
		"Tenant": {
			path: "tenants",
			status: `{namespace: {name: tenant-acme, uid: u}, state: active, running: 3, conditions: [` +
				condition("Ready", "True", "Ready", "As wanted") + `]}`,
			columns: "NAME NAMESPACE STATE READY RUNNING AGE [MESSAGE]",
			cells:   "columns|tenant-acme|active|True|3|0s|As wanted",
		},
		"TenantJobTemplate": {
			path:    "tenantjobtemplates",
			spec:    map[string]string{"spec.queueRef": "{name: mail}"},
			status:  `{conditions: [` + condition("Ready", "False", "PodSecurity", "Change it") + `]}`,
			columns: "NAME QUEUE PRIORITY READY AGE [MESSAGE]",
			cells:   "columns|mail|Medium|False|0s|Change it",
		},
		"TenantJob": {
			path:    "namespaces/default/tenantjobs",
			status:  `{conditions: [` + condition("Succeeded", "Unknown", "Queued", "queue mail is full") + `]}`,
			columns: "NAME TENANT TEMPLATE STATUS AGE [MESSAGE]",
			cells:   "columns|acme|report|Queued|0s|queue mail is full",
		},
		"TenantFanOut": {
			path: "tenantfanouts",
			status: `{counts: {total: 10, succeeded: 4, failed: 3, skipped: 2, waiting: 1, running: 0}, conditions: [` +
				condition("Succeeded", "Unknown", "Running", "") + `]}`,
			columns: "NAME TOTAL SUCCEEDED FAILED SKIPPED WAITING STATUS AGE [MESSAGE]",
			cells:   "columns|10|4|3|2|1|Running|0s|",
		},
		"TenantSchedule": {
			path: "tenantschedules",
			spec: map[string]string{"spec.suspend": "true"},
			status: `{lastScheduleTime: "` + ago + `", nextScheduleTimes: ["` + next + `", "2026-11-25T02:00:00Z"], conditions: [` +
				condition("LastRunSucceeded", "False", "SomeFailed", "") + `]}`,
			columns: "NAME SCHEDULE LAST LAST-RESULT NEXT SUSPENDED",
			cells:   "columns|0 2 * * *|3h|SomeFailed|" + next + "|true",
		},
		"TenantQueue": {
			path:    "tenantqueues",
			spec:    map[string]string{"spec.suspend": "true"},
			status:  `{waiting: 2, running: 0, oldestWaitingTime: "` + ago + `"}`,
			columns: "NAME WAITING RUNNING OLDEST SUSPENDED AGE",
			cells:   "columns|2|0|3h|true|0s",
		},
		"CredentialProvider": {
			path:    "credentialproviders",
			status:  `{conditions: [` + condition("Ready", "False", "Unreachable", "Check host") + `]}`,
			columns: "NAME READY AGE [MESSAGE]",
			cells:   "columns|False|0s|Check host",
		},
	}
	for kind, c := range cases {
		t.Run(kind, func(t *testing.T) {
			obj := newObject(kind, "columns")
			for at, value := range c.spec {
				put(obj, at, value)
			}
			if err := kube.Create(t.Context(), obj); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = kube.Delete(t.Context(), obj) })
			put(obj, "status", c.status)
			if err := kube.Status().Update(t.Context(), obj); err != nil {
				t.Fatal(err)
			}
			var table metav1.Table
			getJSON(t, "/apis/"+v1alpha1.GroupVersion.String()+"/"+c.path+"/columns",
				"application/json;as=Table;v=v1;g=meta.k8s.io", &table)
			var columns, cells []string
			for i, column := range table.ColumnDefinitions {
				name := strings.ToUpper(column.Name)
				if column.Priority > 0 {
					name = "[" + name + "]"
				}
				columns = append(columns, name)
				cells = append(cells, cell(column, table.Rows[0].Cells[i]))
			}
			if diff := cmp.Diff(c.columns, strings.Join(columns, " ")); diff != "" {
				t.Errorf("columns (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.cells, strings.Join(cells, "|")); diff != "" {
				t.Errorf("cells (-want +got):\n%s", diff)
			}
		})
	}
}

// cell is what kubectl prints. An object's age is a moment here.
func cell(column metav1.TableColumnDefinition, value any) string {
	text, isText := value.(string)
	if !isText {
		content, err := json.Marshal(value)
		if err != nil {
			return err.Error()
		}
		text = string(content)
	}
	if column.Name == "Age" {
		text = "0s"
	}
	return text
}

func getJSON(t *testing.T, path, accept string, into any) {
	t.Helper()
	config := rest.CopyConfig(restConfig)
	config.NegotiatedSerializer = scheme.Codecs.WithoutConversion()
	config.GroupVersion = &v1alpha1.GroupVersion
	raw, err := rest.UnversionedRESTClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	body, err := raw.Get().AbsPath(path).SetHeader("Accept", accept).DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(into); err != nil {
		t.Fatal(err)
	}
}
