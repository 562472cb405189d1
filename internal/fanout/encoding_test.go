package fanout

import (
	"bytes"
	"compress/gzip"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// maxConfigMap is how many bytes the API server accepts in a ConfigMap.
const maxConfigMap = 1 << 20

func TestPlanRoundTrip(t *testing.T) {
	for seed := range uint64(30) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		tenants := givenTenants(rnd.IntN(200))
		for i := range tenants {
			tenants[i].State = State(rnd.IntN(4))
			if rnd.IntN(2) == 0 {
				tenants[i].NotBefore = testTime.Add(time.Duration(rnd.IntN(200000)-100000) * time.Second)
			}
		}
		fanOut := givenFanOut(withWaves(sizeWave("a", "10%", 0), sizeWave("b", 5, nil)), withSpread(int32(rnd.IntN(2)*600)))
		p := givenPlan(t, fanOut, tenants)
		got := storedPlan(t, fanOut, p)
		if diff := diffPlans(p, got); diff != "" {
			t.Fatalf("seed %d: plan -sealed +stored:\n%s", seed, diff)
		}
	}
}

// Whatever a template contains, the decoded plan has the same template.
func TestPlanKeepsTheTemplate(t *testing.T) {
	template := givenTemplate()
	container := &template.Spec.JobTemplate.Spec.Template.Spec.Containers[0]
	container.Args = []string{"tab\tline\nnul\x00 \u2028 <&>", "\U0001F600"}
	container.Resources.Limits = corev1.ResourceList{"memory": resource.MustParse("1.5Gi"), "cpu": resource.MustParse("0.1")}
	template.Spec.JobTemplate.Labels = map[string]string{"a": "b"}
	p, err := Seal(Request{FanOut: givenFanOut(), Template: template}, testTime)
	if err != nil {
		t.Fatal(err)
	}
	want := *template.Spec.DeepCopy()
	container.Image = "example.com/check:2" // case 13: an edit after the plan was sealed
	if got := storedPlan(t, givenFanOut(), p); !equality.Semantic.DeepEqual(want, got.Template) || got.TemplateGeneration != 4 {
		t.Errorf("template -want +got:\n%s", cmp.Diff(want, got.Template))
	}
}

// incompressible returns text that gzip can't compress to less than six bits a byte.
func incompressible(n int) string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	rnd := rand.New(rand.NewPCG(1, 2))
	text := make([]byte, n)
	for i := range text {
		text[i] = letters[rnd.IntN(len(letters))]
	}
	return string(text)
}

func TestPlanOutgrowsOneConfigMap(t *testing.T) {
	fanOut, template := givenFanOut(), givenTemplate()
	template.Spec.JobTemplate.Annotations = map[string]string{"big": incompressible(3 << 20)}
	p, err := Seal(Request{FanOut: fanOut, Template: template, Tenants: givenTenants(10)}, testTime)
	if err != nil {
		t.Fatal(err)
	}
	objects, err := p.ConfigMaps(fanOut, testNamespace)
	if err != nil {
		t.Fatal(err)
	}
	if len(objects) < 3 {
		t.Fatalf("%d objects", len(objects))
	}
	last := len(objects) - 1
	head, parts := objects[last], objects[:last]
	names, err := PartNames(head)
	if err != nil {
		t.Fatal(err)
	}
	for i, cm := range objects {
		if size := size(cm); size > maxConfigMap {
			t.Errorf("%s has %d bytes", cm.Name, size)
		}
		if cm.Immutable == nil || !*cm.Immutable || cm.OwnerReferences[0].UID != fanOut.UID || cm.Namespace != testNamespace {
			t.Errorf("%s is not sealed: %+v", cm.Name, cm.ObjectMeta)
		}
		if i < last && cm.Name != names[i] {
			t.Errorf("part %d is %s, want %s", i, cm.Name, names[i])
		}
	}
	if got, err := DecodePlan(head, parts...); err != nil || diffPlans(p, got) != "" {
		t.Errorf("the decoded plan is another: %v", err)
	}
	if _, err := DecodePlan(head, parts[:1]...); err == nil {
		t.Error("a plan without one of its parts was decoded")
	}
	parts[0].BinaryData[keyPlan][7]++
	if _, err := DecodePlan(head, parts...); err == nil {
		t.Error("a plan with a changed part was decoded")
	}

	// The parts of another leader's plan have other names.
	p.SealTime = p.SealTime.Add(time.Second)
	others, err := p.ConfigMaps(fanOut, testNamespace)
	if err != nil {
		t.Fatal(err)
	}
	if others[last].Name != head.Name || others[0].Name == parts[0].Name {
		t.Errorf("the names are %s and %s", others[last].Name, others[0].Name)
	}
}

func TestDecodePlanRefuses(t *testing.T) {
	fanOut := givenFanOut(withWaves(sizeWave("a", 1, nil)))
	p := givenPlan(t, fanOut, []Tenant{tenant("acme"), in(Suspended, tenant("globex"))})
	packed, err := p.pack()
	if err != nil {
		t.Fatal(err)
	}
	text, err := decompress(packed)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ old, replacement string }{
		"another version":          {`"version":1`, `"version":2`},
		"a field of the plan":      {`"version":1`, `"version":1,"more":1`},
		"a field of the template":  {`"jobTemplate":`, `"more":1,"jobTemplate":`},
		"two values":               {`"tenants":2}`, `"tenants":2} {}`},
		"another number":           {`"tenants":2`, `"tenants":3`},
		"no fan-out":               {string(fanOut.UID), ""},
		"a tenant out of order":    {"globex\t", "aaa\t"},
		"a tenant twice":           {"globex\t", "acme\t"},
		"no tenant":                {"globex\t", "\t"},
		"a wave that is missing":   {"uid-globex\t1", "uid-globex\t2"},
		"a wave that is no number": {"uid-globex\t1", "uid-globex\tone"},
		"a time":                   {"uid-globex\t1\t", "uid-globex\t1\tsoon"},
		"an outcome":               {"Skipped", "Vanished"},
		"an outcome of success":    {"Skipped", "Succeeded"},
		"a reason":                 {"TenantSuspended", "Tenant Suspended"},
		"a field more":             {"acme\t", "acme\t\t"},
		"no end":                   {"was suspended\n", "was suspended"},
	} {
		t.Run(name, func(t *testing.T) {
			changed := strings.Replace(text, tc.old, tc.replacement, 1)
			if changed == text {
				t.Fatalf("%q is not in %s", tc.old, text)
			}
			if got, err := unpack(compress(t, changed)); err == nil {
				t.Errorf("decoded %+v", got)
			}
		})
	}
	if _, err := unpack(packed[:len(packed)-9]); err == nil {
		t.Error("decoded half of it")
	}
	if _, err := unpack(compress(t, strings.Repeat("x", maxPlanText+1))); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("decoded more than the greatest size: %v", err)
	}
	if _, err := DecodePlan(&corev1.ConfigMap{}); err == nil {
		t.Error("decoded an empty object")
	}
}

func diffPlans(a, b *Plan) string {
	return cmp.Diff(a, b, cmpopts.EquateEmpty(), cmp.Comparer(func(a, b v1alpha1.TenantJobTemplateSpec) bool {
		return equality.Semantic.DeepEqual(a, b)
	}))
}

// size returns how many bytes of a ConfigMap the API server counts.
func size(cm *corev1.ConfigMap) int {
	n := 0
	for key, value := range cm.Data {
		n += len(key) + len(value)
	}
	for key, value := range cm.BinaryData {
		n += len(key) + len(value)
	}
	return n
}

// compress is the reverse of decompress.
func compress(t testing.TB, text string) []byte {
	t.Helper()
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return packed.Bytes()
}
