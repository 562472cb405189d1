<?php

declare(strict_types=1);

// Dispatches a job for a tenant, with nothing but PHP 8 and the HTTP API of Kubernetes. The extension openssl and the setting
// allow_url_fopen are needed, which PHP has by default. In an application require this file, and call processPayment or
// Dispatcher::dispatch. At a terminal: php dispatch.php TENANT PAYMENT-ID

namespace Hotspot;

/** The request will not be accepted as it is. The message says why, in the API server's words if it is the API server that refuses. */
final class Refused extends \RuntimeException
{
}

/** It is not possible now, or there was no answer. The same call later does no harm, whatever has become of this one. */
final class TryLater extends \RuntimeException
{
}

/** Creates TenantJobs as the service account of the pod, which has to have the ClusterRole tenantry-dispatcher. */
final class Dispatcher
{
    private const SERVICE_ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount';

    private const API = '/apis/tenantry.dev/v1alpha1';

    private const TIMEOUT_SECONDS = 8;

    public function __construct(private string $server, private string $tokenFile, private string $caFile)
    {
    }

    /** What a pod has. Environment variables replace it outside of a cluster. */
    public static function fromEnvironment(): self
    {
        return new self(
            getenv('KUBERNETES_API') ?: 'https://kubernetes.default.svc',
            getenv('KUBERNETES_TOKEN_FILE') ?: self::SERVICE_ACCOUNT.'/token',
            getenv('KUBERNETES_CA_FILE') ?: self::SERVICE_ACCOUNT.'/ca.crt',
        );
    }

    /**
     * Creates a TenantJob, unless the same one has that name already. So the name is what makes two calls one: derive it from what the job
     * is about. It has at most 63 lower-case letters, digits and hyphens, and does not end with a hyphen and eight digits.
     *
     * The role allows this for every tenant. The tenant has to come from what the application has authenticated, and never from what a
     * client may choose: a header, a parameter, the body.
     *
     * @param array<string, string> $parameters of the template
     *
     * @throws Refused
     * @throws TryLater
     */
    public function dispatch(string $tenant, string $template, string $name, array $parameters): void
    {
        if (preg_match('/^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$/D', $tenant) !== 1) {
            throw new Refused('this is not the name of a tenant');
        }
        [$code, $answer] = $this->request('GET', self::API."/tenants/$tenant");
        if ($code === 404 || isset($answer['metadata']['deletionTimestamp'])) {
            throw new Refused("there is no tenant $tenant");
        }
        self::expect(200, $code, $answer);
        // Which namespace it is, only the Tenant says. That of a tenant that is suspended takes a TenantJob, too, which waits there.
        $namespace = $answer['status']['namespace']['name'] ?? throw new TryLater("tenant $tenant has no namespace yet");

        $spec = ['tenantRef' => ['name' => $tenant], 'templateRef' => ['name' => $template], 'parameters' => $parameters];
        $path = self::API."/namespaces/$namespace/tenantjobs";
        [$code, $answer] = $this->request('POST', $path, [
            'apiVersion' => 'tenantry.dev/v1alpha1',
            'kind' => 'TenantJob',
            'metadata' => ['name' => $name],
            'spec' => ['parameters' => (object) $parameters] + $spec,
        ]);
        if ($code !== 409 || ($answer['reason'] ?? '') !== 'AlreadyExists') {
            self::expect(201, $code, $answer);

            return;
        }

        [$code, $answer] = $this->request('GET', "$path/".rawurlencode($name));
        self::expect(200, $code, $answer);
        foreach ($spec as $field => $value) {
            if (self::sorted($answer['spec'][$field] ?? []) !== self::sorted($value)) {
                throw new Refused("there is a TenantJob $name with another $field");
            }
        }
        if (isset($answer['metadata']['deletionTimestamp'])) {
            throw new TryLater("TenantJob $name is being deleted");
        }
    }

    /** Two of these are equal if === says so. With == "1" and "01" would be equal, too. */
    private static function sorted(array $map): array
    {
        ksort($map, SORT_STRING);

        return $map;
    }

    /** Throws unless the code is the expected one. */
    private static function expect(int $want, int $code, array $answer): void
    {
        if ($code === $want) {
            return;
        }
        $message = "the API server answers with $code: ".($answer['message'] ?? '');
        $causes = array_column($answer['details']['causes'] ?? [], 'reason');
        // A namespace is made again while it is being deleted, or does not exist, and a conflict is one about the tenant's quota.
        if (in_array($code, [404, 409, 429], true) || $code >= 500 || in_array('NamespaceTerminating', $causes, true)) {
            throw new TryLater($message);
        }
        throw new Refused($message);
    }

    /**
     * Sends one request, and returns the code and the object of the answer.
     *
     * @return array{int, array<string, mixed>}
     */
    private function request(string $method, string $path, ?array $body = null): array
    {
        // The kubelet replaces the token before it expires, so a process that runs for longer than an hour has to read it again.
        $token = @file_get_contents($this->tokenFile);
        if ($token === false) {
            throw new Refused("the token in $this->tokenFile can't be read");
        }
        $context = stream_context_create([
            'http' => [
                'method' => $method,
                'header' => ['Authorization: Bearer '.trim($token), 'Accept: application/json', 'Content-Type: application/json'],
                'content' => $body === null ? '' : json_encode($body, JSON_THROW_ON_ERROR),
                'ignore_errors' => true, // returns the body of an answer such as 403, too
                'follow_location' => 0,
                'timeout' => self::TIMEOUT_SECONDS,
            ],
            'ssl' => ['cafile' => $this->caFile, 'verify_peer' => true, 'verify_peer_name' => true],
        ]);
        $warnings = [];
        set_error_handler(function (int $_, string $warning) use (&$warnings): bool {
            $warnings[] = $warning;

            return true;
        });
        try {
            $stream = fopen(rtrim($this->server, '/').$path, 'r', false, $context);
            $headers = $stream === false ? [] : stream_get_meta_data($stream)['wrapper_data'];
            $answer = $stream === false ? null : json_decode((string) stream_get_contents($stream), true);
        } finally {
            restore_error_handler();
        }
        if (!is_array($answer) || preg_match('#^HTTP/\S+ (\d{3})#', $headers[0] ?? '', $match) !== 1) {
            throw new TryLater('no answer from the API server: '.implode('; ', [...array_slice($headers, 0, 1), ...$warnings]));
        }

        return [(int) $match[1], $answer];
    }
}

/**
 * Dispatches process-payment for one payment, however often it is called.
 *
 * @throws Refused
 * @throws TryLater
 */
function processPayment(Dispatcher $dispatcher, string $tenant, string $id): void
{
    // An id has one spelling, since it becomes a part of the name. "pending" would stand for all payments of the tenant.
    if (preg_match('/^[1-9][0-9]{0,17}$/D', $id) !== 1) {
        throw new Refused('the id of a payment has up to 18 digits, and no zero in front');
    }
    // With the p no name ends with a hyphen and eight digits, as those of scheduled runs do.
    $dispatcher->dispatch($tenant, 'process-payment', "process-payment-p$id", ['paymentID' => $id]);
}

/** What the script does at a terminal. The exit code is 0 when the job is dispatched, 1 when it is refused, and 75 to try later. */
function main(array $arguments): int
{
    if (count($arguments) !== 2) {
        fwrite(STDERR, "usage: php dispatch.php TENANT PAYMENT-ID\n");

        return 2;
    }
    try {
        processPayment(Dispatcher::fromEnvironment(), ...$arguments);
    } catch (Refused $e) {
        fwrite(STDERR, "refused: {$e->getMessage()}\n");

        return 1;
    } catch (TryLater $e) {
        fwrite(STDERR, "try later: {$e->getMessage()}\n");

        return 75;
    }
    echo "dispatched\n";

    return 0;
}

if (PHP_SAPI === 'cli' && realpath($_SERVER['SCRIPT_FILENAME']) === __FILE__) {
    exit(main(array_slice($argv, 1)));
}
