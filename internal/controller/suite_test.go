package controller

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onsi/gomega"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/apimachinery/pkg/watch"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

const operatorNamespace = "tenantry-system"

var (
	// scheme of everything that the tests and the operator read and write.
	scheme = runtime.NewScheme()
	// restConfig leads to the one API server of all tests, as its administrator.
	restConfig *rest.Config
	// kube is the administrator, past any cache.
	kube client.WithWatch
	// operator is the one under test. A test that stops or restarts it must not be parallel.
	operator = &runningOperator{}
)

func TestMain(m *testing.M) {
	ctrl.SetLogger(klog.Background())
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// runTests runs the tests on an API server with the controllers that Kubernetes itself brings, and with the operator
// under the very roles and policies that it is installed with. There is no kubelet: node takes its place.
func runTests(m *testing.M) (code int, err error) {
	assets := os.Getenv("KUBEBUILDER_ASSETS")
	if assets == "" {
		return 1, errors.New("KUBEBUILDER_ASSETS must name a folder with etcd, kube-apiserver and kube-controller-manager: " +
			"run `make test`, or set it to the last line of `make controlplane`")
	}
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))
	env := &envtest.Environment{CRDDirectoryPaths: []string{"../../config/crd/bases"}, ErrorIfCRDPathMissing: true}
	if restConfig, err = env.Start(); err != nil {
		return 1, fmt.Errorf("starting the API server: %w", err)
	}
	defer func() { err = errors.Join(err, env.Stop()) }()
	restConfig.QPS = -1
	if kube, err = client.NewWithWatch(restConfig, client.Options{Scheme: scheme}); err != nil {
		return 1, fmt.Errorf("making a client: %w", err)
	}
	stop, err := startControllerManager(env, assets)
	if err != nil {
		return 1, err
	}
	defer stop()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if err := EnsureOperatorNamespace(ctx, kube, operatorNamespace); err != nil {
		return 1, err
	}
	if err := install(ctx, "../../config/rbac/*.yaml", "../../config/policy/*.yaml"); err != nil {
		return 1, err
	}
	go runNode(ctx)
	if err := operator.start(); err != nil {
		return 1, err
	}
	defer operator.stop()
	return m.Run(), nil
}

// startControllerManager runs the controllers without which a Job makes no pod and a namespace never goes.
func startControllerManager(env *envtest.Environment, assets string) (stop func(), err error) {
	user, err := env.AddUser(envtest.User{Name: "system:kube-controller-manager", Groups: []string{"system:masters"}}, nil)
	if err != nil {
		return nil, fmt.Errorf("adding a user: %w", err)
	}
	kubeconfig, err := user.KubeConfig()
	if err != nil {
		return nil, fmt.Errorf("making a kubeconfig: %w", err)
	}
	dir, err := os.MkdirTemp("", "controller-manager-")
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "kubeconfig")
	if err := os.WriteFile(file, kubeconfig, 0o600); err != nil {
		return nil, err
	}
	var log bytes.Buffer
	cmd := exec.Command(filepath.Join(assets, "kube-controller-manager"),
		"--kubeconfig="+file, "--leader-elect=false", "--secure-port=0", "--kube-api-qps=1000", "--kube-api-burst=2000", "--min-resync-period=1h",
		"--controllers=garbage-collector-controller,job-controller,namespace-controller,resourcequota-controller,serviceaccount-controller")
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting kube-controller-manager: %w", err)
	}
	exited := make(chan struct{})
	var stopping atomic.Bool
	go func() {
		defer close(exited)
		if err := cmd.Wait(); !stopping.Load() {
			panic(fmt.Sprintf("kube-controller-manager: %v\n%s", err, log.String()))
		}
	}()
	return func() {
		stopping.Store(true)
		_ = cmd.Process.Kill()
		<-exited
		_ = os.RemoveAll(dir)
	}, nil
}

// install applies all objects of the files that the patterns match, as `make deploy` does.
func install(ctx context.Context, patterns ...string) error {
	for _, pattern := range patterns {
		files, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		for _, file := range files {
			if filepath.Base(file) == "kustomization.yaml" {
				continue
			}
			data, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			documents := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096)
			for {
				obj := &unstructured.Unstructured{}
				if err := documents.Decode(obj); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					return fmt.Errorf("reading %s: %w", file, err)
				}
				if err := kube.Apply(ctx, client.ApplyConfigurationFromUnstructured(obj), client.FieldOwner("test"), client.ForceOwnership); err != nil {
					return fmt.Errorf("applying %s: %w", file, err)
				}
			}
		}
	}
	return nil
}

// runningOperator is a manager with all controllers.
type runningOperator struct {
	cancel context.CancelFunc
	done   chan error
	mu     sync.Mutex
	// sent are the requests since it was started.
	sent []string
}

func (o *runningOperator) start() error {
	cfg := rest.CopyConfig(restConfig)
	cfg.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:" + operatorNamespace + ":tenantry",
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + operatorNamespace, "system:authenticated"},
	}
	o.sent = nil
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return noting{next, o} })
	mgr, err := ctrl.NewManager(cfg, manager.Options{
		Scheme:     scheme,
		Cache:      CacheOptions(),
		Client:     ClientOptions(),
		Metrics:    metricsserver.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: new(true)},
		// A test that restarts the operator waits for this.
		GracefulShutdownTimeout: new(10 * time.Second),
	})
	if err != nil {
		return fmt.Errorf("making the manager: %w", err)
	}
	if err := SetupWithManager(mgr, Options{OperatorNamespace: operatorNamespace, VerifyInterval: 100 * time.Millisecond}); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	o.cancel, o.done = cancel, make(chan error, 1)
	go func() { o.done <- mgr.Start(ctx) }()
	if !mgr.GetCache().WaitForCacheSync(ctx) {
		return errors.New("the operator's cache did not sync")
	}
	return nil
}

func (o *runningOperator) stop() {
	o.cancel()
	if err := <-o.done; err != nil {
		panic(fmt.Sprintf("the operator: %v", err))
	}
}

// requests returns the methods and paths of what the operator has asked for since it was started, but for its events.
func (o *runningOperator) requests() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.sent)
}

type noting struct {
	http.RoundTripper
	operator *runningOperator
}

func (n noting) RoundTrip(r *http.Request) (*http.Response, error) {
	if !strings.HasSuffix(r.URL.Path, "/events") {
		n.operator.mu.Lock()
		n.operator.sent = append(n.operator.sent, r.Method+" "+r.URL.Path)
		n.operator.mu.Unlock()
	}
	return n.RoundTripper.RoundTrip(r)
}

// Annotations of a pod that tell the node what to do with it, by a pod template or later.
const (
	// annotationPending keeps a pod from running.
	annotationPending = "test.example.com/pending"
	// annotationLingers keeps a pod that is being deleted until it is taken off.
	annotationLingers = "test.example.com/lingers"
)

// runNode binds, runs and takes away pods as a scheduler and a kubelet would. Tests end them, with endPod.
func runNode(ctx context.Context) {
	for ctx.Err() == nil {
		pods, err := kube.Watch(ctx, &corev1.PodList{})
		if err != nil {
			continue
		}
		for event := range pods.ResultChan() {
			if pod, ok := event.Object.(*corev1.Pod); ok && event.Type != watch.Deleted {
				// Whatever fails comes again, or the pod is gone.
				_ = runPod(ctx, pod)
			}
		}
	}
}

func runPod(ctx context.Context, pod *corev1.Pod) error {
	switch {
	case pod.DeletionTimestamp != nil && pod.Annotations[annotationLingers] == "":
		return kube.Delete(ctx, pod, client.GracePeriodSeconds(0))
	case pod.DeletionTimestamp != nil, pod.Annotations[annotationPending] != "":
		return nil
	case pod.Spec.NodeName == "":
		return kube.SubResource("binding").Create(ctx, pod, &corev1.Binding{Target: corev1.ObjectReference{Kind: "Node", Name: "node-1"}})
	case pod.Status.Phase == corev1.PodPending:
		return setPhase(ctx, pod, corev1.PodRunning, corev1.ConditionTrue)
	}
	return nil
}

func setPhase(ctx context.Context, pod *corev1.Pod, phase corev1.PodPhase, ready corev1.ConditionStatus) error {
	base := pod.DeepCopy()
	pod.Status.Phase = phase
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}
	return kube.Status().Patch(ctx, pod, client.MergeFrom(base))
}

// endPod ends a pod, as its containers would.
func endPod(t *testing.T, pod *corev1.Pod, phase corev1.PodPhase) {
	t.Helper()
	if err := setPhase(t.Context(), pod, phase, corev1.ConditionFalse); err != nil {
		t.Fatal(err)
	}
}

// eventually waits until all that is expected holds.
func eventually(t *testing.T, holds func(g gomega.Gomega)) {
	t.Helper()
	gomega.NewWithT(t).Eventually(holds).WithTimeout(30 * time.Second).WithPolling(100 * time.Millisecond).Should(gomega.Succeed())
}

// read reads an object anew: decoding alone would leave the labels that it no longer has.
func read(ctx context.Context, obj client.Object) error {
	key := client.ObjectKeyFromObject(obj)
	reflect.ValueOf(obj).Elem().SetZero()
	obj.SetNamespace(key.Namespace)
	obj.SetName(key.Name)
	return kube.Get(ctx, key, obj)
}

// get reads an object and fails the expectations if there is none.
func get[T client.Object](t *testing.T, g gomega.Gomega, obj T) T {
	t.Helper()
	g.Expect(read(t.Context(), obj)).To(gomega.Succeed())
	return obj
}

// create makes an object, which goes with the test.
func create[T client.Object](t *testing.T, obj T) T {
	t.Helper()
	if err := kube.Create(t.Context(), obj); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kube.Delete(context.Background(), obj, client.Preconditions{UID: new(obj.GetUID())}) })
	return obj
}

// patch changes an object, whatever has happened to it since it was read.
func patch[T client.Object](t *testing.T, obj T, change func(T)) T {
	t.Helper()
	if err := read(t.Context(), obj); err != nil {
		t.Fatal(err)
	}
	base := obj.DeepCopyObject().(client.Object)
	change(obj)
	if err := kube.Patch(t.Context(), obj, client.MergeFrom(base)); err != nil {
		t.Fatal(err)
	}
	return obj
}

// remove deletes an object.
func remove(t *testing.T, obj client.Object, opts ...client.DeleteOption) {
	t.Helper()
	if err := kube.Delete(t.Context(), obj, opts...); err != nil {
		t.Fatal(err)
	}
}

var names atomic.Int64

// newTenant makes a Tenant with a name of its own.
func newTenant(t *testing.T, spec v1alpha1.TenantSpec) *v1alpha1.Tenant {
	t.Helper()
	name := fmt.Sprintf("t%d", names.Add(1))
	return create(t, &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec})
}

// newReadyTenant makes a Tenant and waits until it is Ready.
func newReadyTenant(t *testing.T, spec v1alpha1.TenantSpec) *v1alpha1.Tenant {
	t.Helper()
	tenant := newTenant(t, spec)
	awaitCondition(t, tenant, v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady, "")
	return tenant
}

// awaitCondition waits until a Tenant says something of its present generation.
func awaitCondition(t *testing.T, tenant *v1alpha1.Tenant, conditionType string, status metav1.ConditionStatus, reason, message string) {
	t.Helper()
	eventually(t, func(g gomega.Gomega) {
		get(t, g, tenant)
		c := meta.FindStatusCondition(tenant.Status.Conditions, conditionType)
		g.Expect(c).NotTo(gomega.BeNil())
		g.Expect([]any{c.Status, c.Reason, c.Message}).To(gomega.HaveExactElements(status, reason, gomega.ContainSubstring(message)))
		g.Expect([]int64{c.ObservedGeneration, tenant.Status.ObservedGeneration}).To(gomega.HaveEach(tenant.Generation))
	})
}

// awaitEvents waits until events have told of a Tenant, in whatever order.
func awaitEvents(t *testing.T, tenant *v1alpha1.Tenant, reasons ...string) {
	t.Helper()
	eventually(t, func(g gomega.Gomega) {
		var all eventsv1.EventList
		g.Expect(kube.List(t.Context(), &all)).To(gomega.Succeed())
		var told []string
		for _, e := range all.Items {
			if e.Regarding.UID == tenant.UID {
				told = append(told, e.Reason)
			}
		}
		g.Expect(told).To(gomega.ConsistOf(reasons))
	})
}

// namespaceOf is the namespace of a Tenant, to be read.
func namespaceOf(tenant *v1alpha1.Tenant) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: tenant.NamespaceName()}}
}

// within names an object in the namespace of a Tenant.
func within(tenant *v1alpha1.Tenant, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: tenant.NamespaceName(), Name: name}
}

// newTemplate makes a TenantJobTemplate with a name of its own, whose pod every namespace accepts.
func newTemplate(t *testing.T, change func(*v1alpha1.TenantJobTemplate)) *v1alpha1.TenantJobTemplate {
	t.Helper()
	template := &v1alpha1.TenantJobTemplate{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("template-%d", names.Add(1))},
		Spec: v1alpha1.TenantJobTemplateSpec{JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{
			BackoffLimit: new(int32(0)),
			Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
				RestartPolicy:   corev1.RestartPolicyNever,
				SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: new(true), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
				Containers: []corev1.Container{{Name: "main", Image: "example.com/app", SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: new(false),
					Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				}}},
			}},
		}}},
	}
	if change != nil {
		change(template)
	}
	return create(t, template)
}

// newTenantJob makes a TenantJob with a name of its own.
func newTenantJob(t *testing.T, tenant *v1alpha1.Tenant, template *v1alpha1.TenantJobTemplate) *v1alpha1.TenantJob {
	t.Helper()
	return create(t, &v1alpha1.TenantJob{
		ObjectMeta: within(tenant, fmt.Sprintf("run-%d", names.Add(1))),
		Spec: v1alpha1.TenantJobSpec{
			TenantRef:   v1alpha1.TenantReference{Name: tenant.Name},
			TemplateRef: v1alpha1.LabelReference{Name: template.Name},
		},
	})
}

// awaitRunningPod waits until a TenantJob has a pod that runs, and returns it.
func awaitRunningPod(t *testing.T, tj *v1alpha1.TenantJob) *corev1.Pod {
	t.Helper()
	var pods corev1.PodList
	eventually(t, func(g gomega.Gomega) {
		g.Expect(kube.List(t.Context(), &pods, client.InNamespace(tj.Namespace), client.MatchingLabels{batchv1.JobNameLabel: tj.Name})).To(gomega.Succeed())
		g.Expect(pods.Items).To(gomega.HaveLen(1))
		g.Expect(pods.Items[0].Status.Phase).To(gomega.Equal(corev1.PodRunning))
	})
	return &pods.Items[0]
}

// awaitOutcome waits until a TenantJob is over for a reason.
func awaitOutcome(t *testing.T, tj *v1alpha1.TenantJob, reason string) {
	t.Helper()
	eventually(t, func(g gomega.Gomega) {
		get(t, g, tj)
		c := meta.FindStatusCondition(tj.Status.Conditions, v1alpha1.ConditionSucceeded)
		g.Expect(c).NotTo(gomega.BeNil())
		g.Expect(c.Reason).To(gomega.Equal(reason), c.Message)
	})
}

// awaitGone waits until there is no such object.
func awaitGone(t *testing.T, obj client.Object) {
	t.Helper()
	eventually(t, func(g gomega.Gomega) {
		err := read(t.Context(), obj)
		g.Expect(apierrors.IsNotFound(err)).To(gomega.BeTrue(), "%v, held by %v", err, obj.GetFinalizers())
	})
}
