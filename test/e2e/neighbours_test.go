package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	utilrand "k8s.io/apimachinery/pkg/util/rand"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

const (
	// neighbourMinutes names the variable that says for how many minutes the hostile member and the broken tenant are there, and for
	// how many more they are not. The times alternate. Unset means half a minute of each.
	neighbourMinutes = "TENANTRY_E2E_NEIGHBOUR_MINUTES"
	// sliceLength is how long they are there or not there at a time.
	sliceLength = 3 * time.Minute
	// dispatchEvery is how often the honest tenants get a TenantJob each.
	dispatchEvery = 3 * time.Second
	// honestPrefix is that of the names of these TenantJobs.
	honestPrefix = "honest-"
	// actsEvery is the mean time between two acts of the hostile member.
	actsEvery = 250 * time.Millisecond
)

// street has tenants that share a queue: two are honest, one has a member who is hostile, and one is broken.
type street struct {
	honest          []*v1alpha1.Tenant
	hostile, broken *v1alpha1.Tenant
	template        *v1alpha1.TenantJobTemplate
	member          client.Client
	rand            *rand.Rand
}

func (s *street) all() []*v1alpha1.Tenant {
	return append(slices.Clone(s.honest), s.hostile, s.broken)
}

// times are how long TenantJobs of the honest tenants took from their creation to their start, and to their end.
type times struct{ toStart, toEnd []time.Duration }

func (t *times) add(tj *v1alpha1.TenantJob) {
	t.toStart = append(t.toStart, tj.Status.StartTime.Sub(tj.CreationTimestamp.Time))
	t.toEnd = append(t.toEnd, tj.Status.CompletionTime.Sub(tj.CreationTimestamp.Time))
}

func (t *times) String() string {
	describe := func(all []time.Duration) string {
		slices.Sort(all)
		sum := time.Duration(0)
		for _, d := range all {
			sum += d
		}
		at := func(part float64) time.Duration { return all[int(part*float64(len(all)-1))] }
		return fmt.Sprintf("mean %.2fs, median %s, 90 %% %s, 99 %% %s, most %s", sum.Seconds()/float64(len(all)), at(.5), at(.9), at(.99), at(1))
	}
	return fmt.Sprintf("%d runs; to the start: %s; to the end: %s", len(t.toStart), describe(t.toStart), describe(t.toEnd))
}

var _ = Describe("A tenant beside a hostile and a broken one", func() {
	It("runs as it does without them", func(ctx SpecContext) {
		slices, length := 1, 30*time.Second
		if minutes, err := strconv.Atoi(os.Getenv(neighbourMinutes)); err == nil {
			slices, length = max(1, int(time.Duration(minutes)*time.Minute/sliceLength)), sliceLength
		}
		s := givenStreet(ctx)
		var quiet, noisy times
		acts := map[string]int{}
		for range slices {
			s.pass(ctx, length, &quiet, nil)
			s.pass(ctx, length, &noisy, acts)
		}
		AddReportEntry("without them", quiet.String(), ReportEntryVisibilityAlways)
		AddReportEntry("beside them", noisy.String(), ReportEntryVisibilityAlways)
		AddReportEntry("what the hostile member did, and what came of it", fmt.Sprint(acts), ReportEntryVisibilityAlways)
	}, NodeTimeout(3*time.Hour))
})

func givenStreet(ctx context.Context) *street {
	GinkgoHelper()
	const mallory = "mallory@hooli.example"
	seed := uint64(GinkgoRandomSeed())
	s := &street{rand: rand.New(rand.NewPCG(seed, 13)), member: clientAs(mallory)}
	s.honest = []*v1alpha1.Tenant{givenTenant(ctx, "acme", v1alpha1.TenantSpec{}), givenTenant(ctx, "globex", v1alpha1.TenantSpec{})}
	s.hostile = givenTenant(ctx, "hooli", v1alpha1.TenantSpec{Members: []v1alpha1.TenantMember{
		{Role: v1alpha1.RoleDispatcher, Subject: v1alpha1.MemberSubject{Kind: v1alpha1.SubjectUser, Name: mallory}},
	}})
	s.broken = givenTenant(ctx, "initech", v1alpha1.TenantSpec{})
	queue := &v1alpha1.TenantQueue{
		ObjectMeta: metav1.ObjectMeta{Name: "street-" + utilrand.String(5)},
		Spec:       v1alpha1.TenantQueueSpec{MaxConcurrent: new(int32(6)), MaxConcurrentPerTenant: new(int32(2))},
	}
	Expect(kube.Create(ctx, queue)).To(Succeed())
	DeferCleanup(func(ctx SpecContext) { Expect(kube.Delete(ctx, queue)).To(Succeed()) })
	s.template = givenTemplate(ctx, "check-expired-sessions", dispatchedByMembersOf(s.hostile), func(spec *v1alpha1.TenantJobTemplateSpec) {
		spec.QueueRef = &v1alpha1.LabelReference{Name: queue.Name}
	})
	// Its role binding takes a moment to be in effect.
	Eventually(ctx, func(ctx context.Context) error {
		return s.member.List(ctx, &v1alpha1.TenantJobList{}, client.InNamespace(s.hostile.NamespaceName()))
	}).Should(Succeed())
	return s
}

// pass has the honest tenants' TenantJobs and a fan-out over all tenants run for some time. With acts, which counts what the hostile
// member does, the others do their worst meanwhile.
func (s *street) pass(ctx context.Context, length time.Duration, measured *times, acts map[string]int) {
	GinkgoHelper()
	noisy, stop := context.WithCancel(ctx)
	var neighbours sync.WaitGroup
	if acts != nil {
		repair := s.breakTenant(ctx)
		defer repair()
		neighbours.Go(func() { s.beHostile(noisy, acts) })
	}
	fanOut := &v1alpha1.TenantFanOut{
		ObjectMeta: metav1.ObjectMeta{Name: "street-" + utilrand.String(5)},
		Spec: v1alpha1.TenantFanOutSpec{
			TemplateRef: v1alpha1.LabelReference{Name: s.template.Name}, Parameters: parameters{"runSeconds": "3"},
			Tenants: v1alpha1.TenantSelection{Names: namesOf(s.all())},
		},
	}
	Expect(kube.Create(ctx, fanOut)).To(Succeed())
	DeferCleanup(func(ctx SpecContext) { Expect(client.IgnoreNotFound(kube.Delete(ctx, fanOut))).To(Succeed()) })
	ticker := time.NewTicker(dispatchEvery)
	defer ticker.Stop()
	for until := time.Now().Add(length); time.Now().Before(until); {
		for _, tenant := range s.honest {
			dispatch(ctx, tenant, s.template, honestPrefix+utilrand.String(8), none)
		}
		s.collect(ctx, measured)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			Fail("it took too long")
		}
	}
	Eventually(ctx, func(ctx context.Context) int { return s.collect(ctx, measured) }).Should(BeZero(), "all honest TenantJobs should end")
	Eventually(ctx, func(g Gomega, ctx context.Context) {
		g.Expect(kube.Get(ctx, client.ObjectKeyFromObject(fanOut), fanOut)).To(Succeed())
		ended := meta.FindStatusCondition(fanOut.Status.Conditions, v1alpha1.ConditionSucceeded)
		g.Expect(ended).To(And(Not(BeNil()), HaveField("Status", Not(Equal(metav1.ConditionUnknown)))))
	}).WithTimeout(15*time.Minute).Should(Succeed(), "TenantFanOut %s should complete: %s", fanOut.Name, deferred(ctx, fanOut))
	for _, failed := range fanOut.Status.UnsuccessfulTenants {
		Expect(namesOf(s.honest)).NotTo(ContainElement(failed.Tenant), failed.Message)
	}
	total := fanOut.Status.Counts
	Expect(total.Succeeded + total.Failed + total.Skipped).To(BeEquivalentTo(len(s.all())))
	if stop(); acts != nil {
		neighbours.Wait()
		s.cleanUp(ctx)
	}
}

// collect expects that the honest tenants' TenantJobs that have ended have succeeded, measures and deletes them. It returns how many
// have not ended.
func (s *street) collect(ctx context.Context, measured *times) (left int) {
	GinkgoHelper()
	for _, tenant := range s.honest {
		var all v1alpha1.TenantJobList
		Expect(kube.List(ctx, &all, client.InNamespace(tenant.NamespaceName()))).To(Succeed())
		for i := range all.Items {
			tj := &all.Items[i]
			ended := meta.FindStatusCondition(tj.Status.Conditions, v1alpha1.ConditionSucceeded)
			switch {
			case !strings.HasPrefix(tj.Name, honestPrefix) || tj.DeletionTimestamp != nil:
			case ended == nil || ended.Status == metav1.ConditionUnknown:
				left++
			default:
				Expect(ended.Reason).To(Equal(v1alpha1.ReasonCompleted), "%s/%s: %s", tj.Namespace, tj.Name, ended.Message)
				measured.add(tj)
				Expect(client.IgnoreNotFound(kube.Delete(ctx, tj, client.PropagationPolicy(metav1.DeletePropagationBackground)))).To(Succeed())
			}
		}
	}
	return left
}

func namesOf(tenants []*v1alpha1.Tenant) []v1alpha1.TenantName {
	var names []v1alpha1.TenantName
	for _, tenant := range tenants {
		names = append(names, v1alpha1.TenantName(tenant.Name))
	}
	return names
}

// breakTenant has all that is created in the broken tenant's namespace fail, for its webhook has no server.
func (s *street) breakTenant(ctx context.Context) (repair func()) {
	GinkgoHelper()
	fail, none := admissionregistrationv1.Fail, admissionregistrationv1.SideEffectClassNone
	webhook := &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: s.broken.Name},
		Webhooks: []admissionregistrationv1.ValidatingWebhook{{
			Name: "down.example.com", FailurePolicy: &fail, SideEffects: &none, AdmissionReviewVersions: []string{"v1"}, TimeoutSeconds: new(int32(10)),
			ClientConfig:      admissionregistrationv1.WebhookClientConfig{URL: new("https://127.0.0.1:9/")},
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: s.broken.NamespaceName()}},
			Rules: []admissionregistrationv1.RuleWithOperations{{
				Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
				Rule: admissionregistrationv1.Rule{
					APIGroups: []string{"batch", "tenantry.dev"}, APIVersions: []string{"*"}, Resources: []string{"*"},
					Scope: new(admissionregistrationv1.NamespacedScope), // The selector does not apply to what is in no namespace.
				},
			}},
		}},
	}
	Expect(kube.Create(ctx, webhook)).To(Succeed())
	DeferCleanup(func(ctx SpecContext) { Expect(client.IgnoreNotFound(kube.Delete(ctx, webhook))).To(Succeed()) })
	return func() { Expect(client.IgnoreNotFound(kube.Delete(ctx, webhook))).To(Succeed()) }
}

// cleanUp deletes what the hostile member has left, and takes its finalizers off.
func (s *street) cleanUp(ctx context.Context) {
	GinkgoHelper()
	inNamespace := client.InNamespace(s.hostile.NamespaceName())
	Eventually(ctx, func(g Gomega, ctx context.Context) {
		g.Expect(kube.DeleteAllOf(ctx, &v1alpha1.TenantJob{}, inNamespace)).To(Succeed())
		var left v1alpha1.TenantJobList
		g.Expect(kube.List(ctx, &left, inNamespace)).To(Succeed())
		for i := range left.Items {
			if len(left.Items[i].Finalizers) > 0 {
				_ = kube.Patch(ctx, &left.Items[i], client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`)))
			}
		}
		g.Expect(left.Items).To(BeEmpty())
		g.Expect(livePods(ctx, s.hostile.NamespaceName())).To(BeEmpty())
	}).WithTimeout(10 * time.Minute).Should(Succeed())
}

// beHostile does one thing after the other that a member can try, until ctx ends. It counts what the API server answered.
func (s *street) beHostile(ctx context.Context, acts map[string]int) {
	defer GinkgoRecover()
	for ctx.Err() == nil {
		for what, act := range s.acts() {
			if s.rand.IntN(12) > 0 {
				continue
			}
			answer := "done"
			if err := act(ctx); err != nil {
				answer = string(apierrors.ReasonForError(err))
			}
			acts[what+": "+answer]++
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(s.rand.Int64N(int64(2 * actsEvery)))):
		}
	}
}

// acts are what the hostile member tries. Its role allows some of that.
func (s *street) acts() map[string]func(context.Context) error {
	patch := func(ctx context.Context, body string) error {
		tj, err := s.any(ctx)
		if tj == nil {
			return err
		}
		return s.member.Patch(ctx, tj, client.RawPatch(types.MergePatchType, []byte(body)))
	}
	create := func(ctx context.Context, edits ...func(*v1alpha1.TenantJob)) error {
		tj := newTenantJob(s.hostile, s.template, "hostile-"+utilrand.String(8), parameters{"runSeconds": v1alpha1.ParameterValue(strconv.Itoa(s.rand.IntN(40)))})
		for _, edit := range edits {
			edit(tj)
		}
		return s.member.Create(ctx, tj)
	}
	remove := func(ctx context.Context, policy metav1.DeletionPropagation) error {
		tj, err := s.any(ctx)
		if tj == nil {
			return err
		}
		return s.member.Delete(ctx, tj, client.PropagationPolicy(policy))
	}
	return map[string]func(context.Context) error{
		"create": func(ctx context.Context) error { return create(ctx) },
		"flood": func(ctx context.Context) (err error) {
			for range s.rand.IntN(40) {
				err = create(ctx)
			}
			return err
		},
		"create a large one": func(ctx context.Context) error {
			return create(ctx, func(tj *v1alpha1.TenantJob) {
				tj.Annotations = map[string]string{"junk": strings.Repeat("x", 200_000)}
				for i := range 300 {
					metav1.SetMetaDataLabel(&tj.ObjectMeta, fmt.Sprintf("junk-%d", i), strings.Repeat("y", 60))
				}
			})
		},
		"create one that fails": func(ctx context.Context) error {
			return create(ctx, func(tj *v1alpha1.TenantJob) { tj.Spec.Parameters["simulateFailure"] = "true" })
		},
		"create one for another tenant": func(ctx context.Context) error {
			return create(ctx, func(tj *v1alpha1.TenantJob) { tj.Spec.TenantRef.Name = s.honest[0].Name })
		},
		"create one with forged labels": func(ctx context.Context) error {
			return create(ctx, func(tj *v1alpha1.TenantJob) {
				tj.Labels = map[string]string{v1alpha1.LabelTenant: s.honest[0].Name, v1alpha1.LabelQueue: "junk", v1alpha1.LabelFanOut: "junk"}
			})
		},
		"create one with a finalizer": func(ctx context.Context) error {
			return create(ctx, func(tj *v1alpha1.TenantJob) { tj.Finalizers = []string{"hooli.example/junk"} })
		},
		"create one for the year 2099": func(ctx context.Context) error {
			return create(ctx, func(tj *v1alpha1.TenantJob) {
				tj.Spec.NotBeforeTime = new(metav1.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC))
			})
		},
		"delete":            func(ctx context.Context) error { return remove(ctx, metav1.DeletePropagationBackground) },
		"delete and wait":   func(ctx context.Context) error { return remove(ctx, metav1.DeletePropagationForeground) },
		"delete and orphan": func(ctx context.Context) error { return remove(ctx, metav1.DeletePropagationOrphan) },
		"cancel":            func(ctx context.Context) error { return patch(ctx, `{"spec":{"cancel":true}}`) },
		"put off": func(ctx context.Context) error {
			return patch(ctx, `{"spec":{"notBeforeTime":"2099-01-01T00:00:00Z"}}`)
		},
		"have it expire":        func(ctx context.Context) error { return patch(ctx, `{"spec":{"maxWaitSeconds":1}}`) },
		"disown":                func(ctx context.Context) error { return patch(ctx, `{"metadata":{"ownerReferences":null}}`) },
		"take its labels off":   func(ctx context.Context) error { return patch(ctx, `{"metadata":{"labels":null}}`) },
		"change its parameters": func(ctx context.Context) error { return patch(ctx, `{"spec":{"parameters":{"runSeconds":"99"}}}`) },
		"forge its status":      func(ctx context.Context) error { return patch(ctx, `{"status":{"conditions":[]}}`) },
		"make it again": func(ctx context.Context) error {
			tj, err := s.any(ctx)
			if tj == nil {
				return err
			}
			if err := s.member.Delete(ctx, tj); err != nil {
				return err
			}
			again := &v1alpha1.TenantJob{Spec: tj.Spec, ObjectMeta: metav1.ObjectMeta{
				Namespace: tj.Namespace, Name: tj.Name, Labels: tj.Labels, Annotations: tj.Annotations, OwnerReferences: tj.OwnerReferences,
			}}
			again.Spec.Parameters = parameters{"runSeconds": "60"}
			return s.member.Create(ctx, again)
		},
		"create a Job": func(ctx context.Context) error {
			return s.member.Create(ctx, &batchv1.Job{
				ObjectMeta: metav1.ObjectMeta{Namespace: s.hostile.NamespaceName(), Name: "junk"},
				Spec:       batchv1.JobSpec{Template: corev1.PodTemplateSpec{Spec: samplePod("probe")}},
			})
		},
		"change its namespace": func(ctx context.Context) error {
			namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.hostile.NamespaceName()}}
			return s.member.Patch(ctx, namespace, client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":null}}`)))
		},
	}
}

// any is a TenantJob of the hostile tenant. Nil means that there is none.
func (s *street) any(ctx context.Context) (*v1alpha1.TenantJob, error) {
	var all v1alpha1.TenantJobList
	if err := s.member.List(ctx, &all, client.InNamespace(s.hostile.NamespaceName())); err != nil || len(all.Items) == 0 {
		return nil, err
	}
	return &all.Items[s.rand.IntN(len(all.Items))], nil
}
