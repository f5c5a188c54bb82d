use emulator::{CLIENT_AZURE_CLI, USER_ONE};
use serde_json::{Value, json};

use crate::support::{Bench, SIGN_IN};

impl Bench {
    async fn control(&self, name: &str, body: &Value) -> (u16, Value) {
        let request = self.http.post(self.url(&format!("/_control/{name}")));
        let reply = request.json(body).send().await.unwrap();
        (reply.status().as_u16(), reply.json().await.unwrap())
    }

    async fn ask(&self, name: &str) -> Value {
        self.get(&format!("/_control/{name}")).await.json().await.unwrap()
    }
}

#[tokio::test]
async fn another_process_can_steer_a_whole_login() {
    let bench = Bench::new().await;
    let start = bench.start_device_login(CLIENT_AZURE_CLI, SIGN_IN).await;
    let approval = json!({ "user": USER_ONE, "user_code": start["user_code"] });
    assert_eq!(bench.control("approve", &approval).await, (200, json!({ "approved": "now" })));
    assert_eq!(bench.poll(CLIENT_AZURE_CLI, &start).await.0, 200);

    let order = json!({ "match": { "kind": "token" }, "times": 2, "answer": { "error": { "code": 50076 } } });
    assert_eq!(bench.control("script", &order).await.0, 200);
    let (_, refused) = bench.poll(CLIENT_AZURE_CLI, &start).await;
    assert_eq!(refused["error_codes"][0], 50076);

    let stats = bench.ask("stats").await;
    assert_eq!(stats, json!({ "devicecode": 1, "token.device_code": 2, "total": 3 }));
    let log = bench.ask("log?kind=token").await;
    assert_eq!((&log["log"][0]["user"], &log["log"][1]["code"]), (&USER_ONE.into(), &50076.into()));
    assert_eq!(bench.ask("wait?kind=devicecode&timeout=0").await["count"], 1);
    bench.control("reset-log", &json!({})).await;
    assert_eq!(bench.ask("stats").await, json!({ "total": 0 }));
    assert_eq!(bench.control("change-password", &json!({ "user": USER_ONE })).await.0, 200);
    assert_eq!(bench.ask("refresh-tokens").await["refresh_tokens"][0]["dead"], true);
}

#[tokio::test]
async fn an_order_that_cannot_be_understood_says_why() {
    let bench = Bench::new().await;
    let (status, problem) = bench.control("script", &json!({ "answer": { "eror": {} } })).await;
    assert_eq!(status, 400);
    assert!(problem["problem"].as_str().unwrap().contains("eror"));
    let (status, problem) = bench.control("settings", &json!({ "lifetime": 1 })).await;
    assert_eq!(status, 400);
    assert!(problem["problem"].as_str().unwrap().contains("lifetime"));
    let (status, _) = bench.control("approve", &json!({ "user": "nobody" })).await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn every_secret_of_an_exchange_is_listed_and_none_is_in_the_log() {
    let bench = Bench::new().await;
    let secret = bench.log_in().await;
    bench.refresh(CLIENT_AZURE_CLI, &secret).await;
    let listed = bench.entra.secrets();
    for kind in ["access_token", "client_info", "device_code", "id_token", "refresh_token"] {
        assert!(listed.iter().any(|secret| secret.kind == kind), "{kind}");
    }
    let log = bench.ask("log").await.to_string();
    for secret in listed {
        assert!(!log.contains(&secret.value), "{} is in the log", secret.kind);
    }
}

#[tokio::test]
async fn addresses_name_the_host_that_was_asked() {
    let bench = Bench::new().await;
    let port = bench.entra.port();
    let request = bench
        .http
        .get(bench.url("/organizations/v2.0/.well-known/openid-configuration"))
        .header("host", "login.microsoftonline.com");
    let configuration: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(configuration["issuer"], "https://login.microsoftonline.com/{tenantid}/v2.0");
    assert_eq!(
        configuration["token_endpoint"],
        "https://login.microsoftonline.com/organizations/oauth2/v2.0/token"
    );

    let instance = async |host: &str| {
        let path = format!(
            "/common/discovery/instance?api-version=1.1&authorization_endpoint=https://{host}/common/oauth2/v2.0/authorize"
        );
        bench.get(&path).await.json::<Value>().await.unwrap()
    };
    let known = instance("sts.windows.net").await;
    assert_eq!(known["metadata"][0]["preferred_cache"], "login.windows.net");
    let own = instance(&format!("127.0.0.1:{port}")).await;
    assert!(own["metadata"].to_string().contains(&format!("127.0.0.1:{port}")));
    let unknown = instance("evil.example").await;
    assert_eq!(unknown["error"], "invalid_instance");
}

#[tokio::test]
async fn dropping_the_emulator_closes_its_port_and_removes_its_certificate() {
    let bench = Bench::new().await;
    let (port, ca) = (bench.entra.port(), bench.entra.ca_path().to_owned());
    assert!(ca.exists());
    drop(bench);
    assert!(!ca.exists());
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
}
