package controller_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/apimachinery/pkg/watch"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/internal/controller"
	"github.com/tenantry/tenantry/internal/kube"
)

const operatorNamespace = "tenantry-system"

var (
	// scheme of everything that the tests and the operator read and write.
	scheme = runtime.NewScheme()
	// restConfig leads to the one API server of all tests, as its administrator.
	restConfig *rest.Config
	// admin is the administrator, past any cache.
	admin client.WithWatch
	// operator is the one under test. A test that stops or restarts it must not be parallel.
	operator = &runningOperator{}
)

func TestMain(m *testing.M) {
	flag.Parse()
	utilruntime.Must(flag.Set("test.parallel", "12")) // They wait more than they work.
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
	if admin, err = client.NewWithWatch(restConfig, client.Options{Scheme: scheme}); err != nil {
		return 1, fmt.Errorf("making a client: %w", err)
	}
	stop, err := startControllerManager(env, assets)
	if err != nil {
		return 1, err
	}
	defer stop()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if err := kube.EnsureOperatorNamespace(ctx, admin, operatorNamespace); err != nil {
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
				if err := admin.Apply(ctx, client.ApplyConfigurationFromUnstructured(obj), client.FieldOwner("test"), client.ForceOwnership); err != nil {
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
		Cache:      kube.CacheOptions(),
		Client:     kube.ClientOptions(),
		Metrics:    metricsserver.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: new(true)},
		// A test that restarts the operator waits for this.
		GracefulShutdownTimeout: new(10 * time.Second),
	})
	if err != nil {
		return fmt.Errorf("making the manager: %w", err)
	}
	if err := controller.SetupWithManager(mgr, controller.Options{OperatorNamespace: operatorNamespace, Clock: handTurned{}}); err != nil {
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

// handTurned is a clock on which nobody's turn comes but when a test says so: the verification of all tenants would hide
// from the other tests what a watch misses.
type handTurned struct{ clock.RealClock }

var turns = make(chan time.Time)

func (handTurned) After(time.Duration) <-chan time.Time { return turns }

// verifying lets the operator verify one tenant after the other until the test ends, which must not be parallel.
func verifying(t *testing.T) {
	t.Helper()
	go func() {
		for pause := time.NewTicker(20 * time.Millisecond); ; <-pause.C {
			select {
			case turns <- time.Now():
			case <-t.Context().Done():
				pause.Stop()
				return
			}
		}
	}()
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
		pods, err := admin.Watch(ctx, &corev1.PodList{})
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
		return admin.Delete(ctx, pod, client.GracePeriodSeconds(0))
	case pod.DeletionTimestamp != nil, pod.Annotations[annotationPending] != "":
		return nil
	case pod.Spec.NodeName == "":
		return admin.SubResource("binding").Create(ctx, pod, &corev1.Binding{Target: corev1.ObjectReference{Kind: "Node", Name: "node-1"}})
	case pod.Status.Phase == corev1.PodPending:
		return setPhase(ctx, pod, corev1.PodRunning, corev1.ConditionTrue)
	}
	return nil
}

func setPhase(ctx context.Context, pod *corev1.Pod, phase corev1.PodPhase, ready corev1.ConditionStatus) error {
	base := pod.DeepCopy()
	pod.Status.Phase = phase
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: ready}}
	return admin.Status().Patch(ctx, pod, client.MergeFrom(base))
}

// endPod ends a pod, as its containers would.
func endPod(t *testing.T, pod *corev1.Pod, phase corev1.PodPhase) {
	t.Helper()
	if err := setPhase(t.Context(), pod, phase, corev1.ConditionFalse); err != nil {
		t.Fatal(err)
	}
}
