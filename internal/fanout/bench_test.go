package fanout

import (
	"fmt"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// many is the number of tenants for which the package is designed.
const many = 10_000

func manyTenants() []Tenant {
	tenants := givenTenants(many)
	for i := range tenants {
		tenants[i].Name = fmt.Sprintf("customer-%s-%05d", incompressible(8), i)
	}
	return tenants
}

func manyInWaves() *v1alpha1.TenantFanOut {
	return givenFanOut(withWaves(sizeWave("canary", 10, 0), sizeWave("five-percent", "5%", 2)), withMaxFailures("5%"), withMaxConcurrent(50), withSpread(600))
}

// A plan of many tenants with incompressible names has less than 2 MiB. With -v the test logs the sizes.
func TestSizes(t *testing.T) {
	fanOut, tenants := manyInWaves(), manyTenants()
	for i := range tenants {
		tenants[i].Name = fmt.Sprintf("%.40s", fmt.Sprintf("%016x%016x%08x", hash("n", fmt.Sprint(i)), hash("m", fmt.Sprint(i)), i))
	}
	p := givenPlan(t, fanOut, tenants)
	objects, err := p.ConfigMaps(fanOut, testNamespace)
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, cm := range objects {
		total += size(cm)
		if size(cm) > maxConfigMap {
			t.Errorf("%s has %d bytes", cm.Name, size(cm))
		}
	}
	if total > 2<<20 {
		t.Errorf("the plan has %d bytes", total)
	}
	l := NewLedger(p)
	for i := range many {
		l.setMark(i, '0')
	}
	t.Logf("plan of %d tenants with names that don't compress: %d bytes in %d ConfigMaps; ledger when all succeeded: %d bytes",
		many, total, len(objects), size(l.ConfigMap(fanOut, testNamespace)))
}

func BenchmarkSeal(b *testing.B) {
	fanOut, tenants := manyInWaves(), manyTenants()
	b.ReportAllocs()
	for b.Loop() {
		givenPlan(b, fanOut, tenants)
	}
}

func BenchmarkPlanEncode(b *testing.B) {
	fanOut := manyInWaves()
	p := givenPlan(b, fanOut, manyTenants())
	bytes := 0
	for b.Loop() {
		objects, err := p.ConfigMaps(fanOut, testNamespace)
		if err != nil {
			b.Fatal(err)
		}
		bytes = size(objects[0])
	}
	b.ReportMetric(float64(bytes), "bytes")
}

func BenchmarkPlanDecode(b *testing.B) {
	fanOut := manyInWaves()
	objects, err := givenPlan(b, fanOut, manyTenants()).ConfigMaps(fanOut, testNamespace)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := DecodePlan(objects[0]); err != nil {
			b.Fatal(err)
		}
	}
}

// manyLedgers returns ledgers at the start, in the middle, and at the end when one in ten tenants has failed.
func manyLedgers(b *testing.B, fanOut *v1alpha1.TenantFanOut) map[string]Observed {
	tenants := manyTenants()
	running := Child{Presence: Ours, Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonRunning}
	fanOut.Spec.Strategy.Waves = nil
	start := NewLedger(givenPlan(b, fanOut, tenants))
	middle, end := start.Clone(), start.Clone()
	children := make(map[string]Child, many)
	for i, e := range start.plan.Entries {
		middle.setMark(i, markCreated)
		children[e.Tenant] = running
		if i%10 == 0 {
			end.Record(i, Outcome{Failed, v1alpha1.ReasonJobFailed, fmt.Sprintf("Job of %s has reached the specified backoff limit", e.Tenant)})
		} else {
			end.Record(i, completed(""))
		}
	}
	return map[string]Observed{
		"start":  {FanOut: fanOut, Ledger: start, Tenants: index(tenants)},
		"middle": {FanOut: fanOut, Ledger: middle, Tenants: index(tenants), Children: children},
		"end":    {FanOut: fanOut, Ledger: end, Tenants: index(tenants), Children: children},
	}
}

func BenchmarkDecide(b *testing.B) {
	for name, o := range manyLedgers(b, manyInWaves()) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Decide(o, testTime)
			}
		})
	}
}

func BenchmarkStatus(b *testing.B) {
	for name, o := range manyLedgers(b, manyInWaves()) {
		d := Decide(o, testTime)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				d.Status(testTime)
			}
		})
	}
}

func BenchmarkLedger(b *testing.B) {
	fanOut := manyInWaves()
	l := manyLedgers(b, fanOut)["end"].Ledger
	cm := l.ConfigMap(fanOut, testNamespace)
	b.Run("encode", func(b *testing.B) {
		for b.Loop() {
			l.ConfigMap(fanOut, testNamespace)
		}
		b.ReportMetric(float64(size(cm)), "bytes")
	})
	b.Run("decode", func(b *testing.B) {
		for b.Loop() {
			if _, err := DecodeLedger(cm, l.plan); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkGate(b *testing.B) {
	fanOut := manyInWaves()
	l := manyLedgers(b, fanOut)["middle"].Ledger
	for b.Loop() {
		g := NewGate(fanOut, l, l, "")
		g.Allowance()
		g.End(many / 2)
		g.Written(many/2, "uid")
	}
}
