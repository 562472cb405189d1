package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"

	"github.com/tenantry/tenantry/api/v1alpha1"
	"github.com/tenantry/tenantry/config/policy"
)

// The API server of all tests, without the operator: a test writes the status of its Tenants itself.
var (
	restConfig *rest.Config
	admin      client.Client
	// app has the token of the service account in rbac.yaml, and no other rights than that file gives it.
	app client.WithWatch
	// appToken is that token, and strangerToken the one of a service account without any role.
	appToken, strangerToken string
)

// patience is how long a test waits for a state.
const patience = 4 * time.Minute

func TestMain(m *testing.M) {
	ctrl.SetLogger(klog.Background())
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func runTests(m *testing.M) (code int, err error) {
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		return 1, errors.New("KUBEBUILDER_ASSETS must name a folder with etcd and kube-apiserver: run `make test`, " +
			"or set it to the last line of `make controlplane`")
	}
	env := &envtest.Environment{CRDDirectoryPaths: []string{"../../../config/crd/bases"}, ErrorIfCRDPathMissing: true}
	if restConfig, err = env.Start(); err != nil {
		return 1, fmt.Errorf("starting the API server: %w", err)
	}
	defer func() { err = errors.Join(err, env.Stop()) }()
	restConfig.QPS = -1
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		admissionregistrationv1.AddToScheme, authenticationv1.AddToScheme, batchv1.AddToScheme, corev1.AddToScheme, v1alpha1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return 1, err
		}
	}
	if admin, err = client.New(restConfig, client.Options{Scheme: scheme}); err != nil {
		return 1, fmt.Errorf("making a client: %w", err)
	}
	ctx := context.Background()
	for _, file := range []string{"../../../config/rbac/dispatcher_role.yaml", "rbac.yaml"} {
		if err := apply(ctx, file); err != nil {
			return 1, fmt.Errorf("applying %s: %w", file, err)
		}
	}
	if err := installPolicies(ctx); err != nil {
		return 1, fmt.Errorf("installing the policies: %w", err)
	}
	if appToken, err = newToken(ctx, "hotspot", "hotspot-web"); err != nil {
		return 1, err
	}
	stranger := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "stranger"}}
	if err := admin.Create(ctx, stranger); err != nil {
		return 1, err
	}
	if strangerToken, err = newToken(ctx, stranger.Namespace, stranger.Name); err != nil {
		return 1, err
	}
	if app, err = client.NewWithWatch(withToken(appToken), client.Options{Scheme: scheme}); err != nil {
		return 1, fmt.Errorf("making a client: %w", err)
	}
	if err := awaitEffect(ctx); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

// installPolicies installs the admission policies. They bind everybody but the administrator of the tests, who acts as the operator, too.
func installPolicies(ctx context.Context) error {
	set, err := policy.For("tenantry-system", policy.ServiceAccount("tenantry-system"))
	if err != nil {
		return err
	}
	for _, p := range set.Policies {
		p.Spec.MatchConditions = append(p.Spec.MatchConditions, admissionregistrationv1.MatchCondition{
			Name: "not-the-administrator", Expression: `request.userInfo.username != "admin"`,
		})
		if err := admin.Create(ctx, p); err != nil {
			return err
		}
	}
	for _, binding := range set.Bindings {
		if err := admin.Create(ctx, binding); err != nil {
			return err
		}
	}
	return nil
}

// awaitEffect waits until the role and the policies are in force, which is a moment after they were created. Before that the application
// may create nothing, or a TenantJob in a namespace of no tenant.
func awaitEffect(ctx context.Context) error {
	tj := newTenantJob(&v1alpha1.Tenant{
		ObjectMeta: metav1.ObjectMeta{Name: "acme"}, Status: v1alpha1.TenantStatus{Namespace: &v1alpha1.TenantNamespaceStatus{Name: "hotspot"}},
	}, "1")
	var last error
	err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		if err := app.Create(ctx, tj.DeepCopy(), client.DryRunAll); ctx.Err() == nil {
			last = err
		}
		return isRefusedByPolicy(last), nil
	})
	if err != nil {
		return fmt.Errorf("waiting for the role and the policies: %w", errors.Join(err, last))
	}
	return nil
}

// isRefusedByPolicy reports whether the admission policy about TenantJobs refuses a request, and not RBAC or the schema.
func isRefusedByPolicy(err error) bool {
	return err != nil && strings.Contains(err.Error(), "ValidatingAdmissionPolicy 'tenant-job'")
}

// apply applies the objects of a file, as kubectl does.
func apply(ctx context.Context, file string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for document := range strings.SplitSeq(string(content), "\n---\n") {
		obj := &unstructured.Unstructured{}
		if err := yaml.UnmarshalStrict([]byte(document), obj); err != nil {
			return err
		}
		if err := admin.Apply(ctx, client.ApplyConfigurationFromUnstructured(obj), client.FieldOwner("test")); err != nil {
			return err
		}
	}
	return nil
}

// newToken returns a token of a service account, as the kubelet puts it into a pod.
func newToken(ctx context.Context, namespace, name string) (string, error) {
	request := &authenticationv1.TokenRequest{}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	if err := admin.SubResource("token").Create(ctx, account, request); err != nil {
		return "", fmt.Errorf("requesting a token for service account %s: %w", name, err)
	}
	return request.Status.Token, nil
}

// withToken leads to the API server with a token and nothing else.
func withToken(token string) *rest.Config {
	cfg := rest.AnonymousClientConfig(restConfig)
	cfg.QPS, cfg.BearerToken = -1, token
	return cfg
}

var serial atomic.Int64

// newTenant creates a Tenant with a name of its own, which has a namespace.
func newTenant(t *testing.T) *v1alpha1.Tenant {
	t.Helper()
	tenant := &v1alpha1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("t%d", serial.Add(1))}}
	create(t, tenant)
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		// Not the one that follows from the Tenant's name: only the status says which one it is.
		Name: "adopted-" + tenant.Name, Labels: map[string]string{v1alpha1.LabelTenant: tenant.Name},
	}}
	create(t, namespace)
	tenant.Status.Namespace = &v1alpha1.TenantNamespaceStatus{Name: namespace.Name, UID: namespace.UID}
	if err := admin.Status().Update(t.Context(), tenant); err != nil {
		t.Fatal(err)
	}
	return tenant
}

func create(t *testing.T, obj client.Object) {
	t.Helper()
	if err := admin.Create(t.Context(), obj); err != nil {
		t.Fatal(err)
	}
}

// tenantJobs returns the TenantJobs in the namespace of a Tenant.
func tenantJobs(t *testing.T, tenant *v1alpha1.Tenant) []v1alpha1.TenantJob {
	t.Helper()
	list := &v1alpha1.TenantJobList{}
	if err := admin.List(t.Context(), list, client.InNamespace("adopted-"+tenant.Name)); err != nil {
		t.Fatal(err)
	}
	return list.Items
}
