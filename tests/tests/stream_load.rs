//! Files into tables over HTTP: answers, labels, filtered rows, formats, and curl itself.

use coffer_tests::data::{create, csv, fingerprint};
use coffer_tests::http::{StreamLoad, get};
use coffer_tests::{Cluster, Outcome};

async fn with_table() -> anyhow::Result<Cluster> {
    let cluster = Cluster::builder().backends(1).brokers(0).start().await?;
    let mut sql = cluster.sql();
    sql.run("CREATE DATABASE d").await?;
    sql.run(&create("d.t", 2, 1)).await?;
    sql.run(
        "CREATE TABLE d.small (k INT NOT NULL, v VARCHAR(10), n DECIMAL(6,2)) DUPLICATE KEY(k)
         DISTRIBUTED BY HASH(k) BUCKETS 1 PROPERTIES (\"replication_num\" = \"1\")",
    )
    .await?;
    Ok(cluster)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_counts_rows_and_a_label_loads_once() -> Outcome {
    let cluster = with_table().await?;
    let load = StreamLoad::new(cluster.frontend(), "d", "t").header("label", "one");
    let answer = load.must_succeed(csv(1, 0, 1_000)).await?;
    for (field, wanted) in [("NumberTotalRows", 1_000), ("NumberLoadedRows", 1_000), ("NumberFilteredRows", 0)] {
        assert_eq!(answer[field], wanted, "{answer}");
    }
    assert_eq!(answer["Label"], "one");
    assert!(answer["TxnId"].is_number() && answer["LoadBytes"].as_u64() > Some(10_000), "{answer}");

    let again = load.send(csv(1, 0, 1_000)).await?;
    assert_eq!((&again["Status"], &again["ExistingJobStatus"]), (&"Label Already Exists".into(), &"FINISHED".into()));
    let mut sql = cluster.sql();
    assert_eq!(fingerprint(&mut sql, "d.t").await?[0], "1000");
    assert!(sql.scalar("SELECT count(*) FROM d.t WHERE note IS NULL").await?.parse::<u64>()? > 50);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_rows_fail_a_load_unless_they_are_allowed() -> Outcome {
    let cluster = with_table().await?;
    let body = "1|a|1.00\n2|b\nx|c|1.00\n4|this is far too long|1.00\n|e|1\n6|f|6.5\n";
    let load = StreamLoad::new(cluster.frontend(), "d", "small").header("label", "bad");
    let answer = load.send(body).await?;
    assert_eq!(answer["Status"], "Fail", "{answer}");
    assert_eq!(cluster.sql().scalar("SELECT count(*) FROM d.small").await?, "0");

    // The label of a failed load is free again.
    let answer = load.clone().header("max_filter_ratio", "0.8").send(body).await?;
    assert_eq!(answer["Status"], "Success", "{answer}");
    assert_eq!((&answer["NumberLoadedRows"], &answer["NumberFilteredRows"]), (&2.into(), &4.into()), "{answer}");
    assert_eq!(answer["NumberTotalRows"], 6);
    let rows = cluster.sql().table("SELECT k, v, n FROM d.small ORDER BY k").await?;
    assert_eq!(rows, [["1", "a", "1.00"], ["6", "f", "6.50"]]);
    if let Some(url) = answer["ErrorURL"].as_str() {
        let text = reqwest::get(url).await?.text().await?;
        assert!(text.contains('x'), "{text}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_named() -> Outcome {
    let cluster = with_table().await?;
    let frontend = cluster.frontend();
    for (database, table, named) in [("d", "nothing", "nothing"), ("nowhere", "t", "nowhere")] {
        let answer = StreamLoad::new(frontend, database, table).send("1|2|3\n").await?;
        assert_eq!(answer["Status"], "Fail", "{answer}");
        assert!(answer["Message"].as_str().unwrap_or_default().contains(named), "{answer}");
    }
    let denied = StreamLoad::new(frontend, "d", "small").as_user("root", "wrong").send("1|a|1\n").await;
    let text = format!("{denied:?}");
    assert!(text.contains("401") || text.contains("Fail") || text.contains("denied"), "{text}");
    assert_eq!(cluster.sql().scalar("SELECT count(*) FROM d.small").await?, "0");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_loads_as_users_write_it() -> Outcome {
    let cluster = with_table().await?;
    let file = cluster.dir().join("data.csv");
    std::fs::write(&file, csv(5, 0, 20_000))?;
    let url = format!("http://{}/api/d/t/_stream_load", cluster.frontend().http);
    let output = tokio::process::Command::new("curl")
        .args(["--silent", "--show-error", "--location-trusted", "-u", "root:", "-H", "Expect:100-continue"])
        .args(["-H", "label:curl", "-H", "column_separator:|", "-T"])
        .arg(&file)
        .arg(&url)
        .output()
        .await?;
    let answer: serde_json::Value =
        serde_json::from_slice(&output.stdout).map_err(|error| anyhow::anyhow!("{error}: {output:?}"))?;
    assert_eq!(answer["Status"], "Success", "{answer}");
    assert_eq!(answer["NumberLoadedRows"], 20_000);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn json_lines_and_arrays_become_rows() -> Outcome {
    let cluster = with_table().await?;
    let load = StreamLoad::new(cluster.frontend(), "d", "small").header("format", "json");
    let lines = "{\"k\": 1, \"v\": \"a|\\n\\u00e9\", \"n\": 1.5}\n\n{\"n\": null, \"K\": 2, \"other\": {\"x\": []}}\n";
    let answer = load.must_succeed(lines).await?;
    assert_eq!((&answer["NumberTotalRows"], &answer["NumberLoadedRows"]), (&2.into(), &2.into()), "{answer}");
    let outer = load.clone().header("strip_outer_array", "true");
    outer.must_succeed("[\n {\"k\": 3,\n  \"v\": \"],{\"},\n {\"k\": \"4\", \"n\": \"2.25\"}\n]\n").await?;
    let deep = "{\"data\": [{\"id\": 5, \"tags\": [\"x\", \"y\"]}, {\"id\": 6}]}";
    let placed = outer
        .clone()
        .header("json_root", "$.data")
        .header("jsonpaths", "[\"$.tags[1]\", \"$.id\"]")
        .header("columns", "v, k");
    placed.must_succeed(deep).await?;
    let rows = cluster.sql().table("SELECT k, v, n FROM d.small ORDER BY k").await?;
    let wanted = [
        ["1", "a|\né", "1.50"],
        ["2", "NULL", "NULL"],
        ["3", "],{", "NULL"],
        ["4", "NULL", "2.25"],
        ["5", "y", "NULL"],
        ["6", "NULL", "NULL"],
    ];
    assert_eq!(rows, wanted);

    // Documents that do not fit are counted and shown as they came.
    let bad = "{\"k\": 7}\n{\"k\": }\n[]\n{\"v\": \"no key\"}\n";
    let answer = load.send(bad).await?;
    assert_eq!((&answer["Status"], &answer["NumberFilteredRows"]), (&"Fail".into(), &3.into()), "{answer}");
    let answer = load.clone().header("max_filter_ratio", "0.75").send(bad).await?;
    assert_eq!((&answer["Status"], &answer["NumberLoadedRows"]), (&"Success".into(), &1.into()), "{answer}");
    let url = answer["ErrorURL"].as_str().unwrap_or_default();
    let text = reqwest::get(url).await?.text().await?;
    assert!(text.contains("document 2: not JSON") && text.contains("{\"v\": \"no key\"}"), "{text}");
    for (header, value, named) in [
        ("jsonpaths", "$.k", "jsonpaths"),
        ("json_root", "data", "'data' is no JSON path"),
        ("fuzzy_parse", "true", "fuzzy_parse"),
    ] {
        let answer = load.clone().header(header, value).send("{\"k\": 8}\n").await?;
        let message = answer["Message"].as_str().unwrap_or_default();
        assert!(answer["Status"] == "Fail" && message.contains(named), "{header}: {answer}");
    }
    // No array of rows.
    assert_eq!(outer.send("{\"k\": 8}\n").await?["Status"], "Fail");
    assert_eq!(cluster.sql().scalar("SELECT count(*) FROM d.small").await?, "7");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_loads_json_and_gzip_as_users_write_it() -> Outcome {
    let cluster = with_table().await?;
    let row = |k: u32| format!("{{\"k\": {k}, \"v\": \"v{}\", \"n\": {}.5}}", k % 100, k % 1_000);
    let rows: Vec<String> = (0..20_000).map(row).collect();
    let url = format!("http://{}/api/d/small/_stream_load", cluster.frontend().http);
    for (label, header, text) in [
        ("lines", "read_json_by_line:true", rows.join("\n")),
        ("array", "strip_outer_array:true", format!("[{}]", rows.join(",\n"))),
    ] {
        let mut file = cluster.dir().join(label);
        std::fs::write(&file, text)?;
        // One of them as it is, the other one compressed.
        let compression = if label == "lines" { "plain" } else { "gz" };
        if compression == "gz" {
            let packed = tokio::process::Command::new("gzip").arg(&file).status().await?;
            assert!(packed.success(), "gzip: {packed}");
            file.set_extension("gz");
        }
        let output = tokio::process::Command::new("curl")
            .args(["--silent", "--show-error", "--location-trusted", "-u", "root:", "-H", "Expect:100-continue"])
            .args(["-H", "format:json", "-H", header, "-H", &format!("label:{label}")])
            .args(["-H", &format!("compress_type:{compression}"), "-T"])
            .arg(&file)
            .arg(&url)
            .output()
            .await?;
        let answer: serde_json::Value =
            serde_json::from_slice(&output.stdout).map_err(|error| anyhow::anyhow!("{error}: {output:?}"))?;
        assert_eq!((&answer["Status"], &answer["NumberLoadedRows"]), (&"Success".into(), &20_000.into()), "{answer}");
    }
    // What is no gzip, or not all of it, loads nothing.
    let packed = std::fs::read(cluster.dir().join("array.gz"))?;
    let load = StreamLoad::new(cluster.frontend(), "d", "small").header("compress_type", "gz");
    for body in [&packed[..packed.len() - 1], b"1|a|1\n"] {
        let answer = load.send(body.to_vec()).await?;
        assert_eq!(answer["Status"], "Fail", "{answer}");
        assert!(answer["Message"].as_str().unwrap_or_default().contains("compress_type"), "{answer}");
    }
    let sums = cluster.sql().table("SELECT count(*), count(DISTINCT k), max(v), sum(n) FROM d.small").await?;
    assert_eq!(sums, [["40000", "20000", "v99", "20000000.00"]]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_choose_rows_and_set_columns() -> Outcome {
    let cluster = with_table().await?;
    let load = StreamLoad::new(cluster.frontend(), "d", "small");
    // The third row cannot be read, whatever was wanted of it: it counts as filtered.
    let chosen = load.clone().header("where", "k BETWEEN 2 AND 5 AND v <> 'c' AND n IS NOT NULL");
    let body = "1|a|1\n2|b|2\nx|y|3\n3|c|3\n4|d|\\N\n5|e|5\n6|f|6\n";
    assert_eq!(chosen.send(body).await?["Status"], "Fail");
    let answer = chosen.clone().header("max_filter_ratio", "0.4").must_succeed(body).await?;
    for (field, wanted) in
        [("NumberTotalRows", 7), ("NumberLoadedRows", 2), ("NumberFilteredRows", 1), ("NumberUnselectedRows", 4)]
    {
        assert_eq!(answer[field], wanted, "{field}: {answer}");
    }
    // One wrong row of three that are meant is more than a quarter.
    let answer = chosen.clone().header("max_filter_ratio", "0.25").send(body).await?;
    assert!(answer["Message"].as_str().unwrap_or_default().contains("1 of 3"), "{answer}");
    load.clone().header("columns", "tmp, v, k = tmp, n = '7.5'").must_succeed("10|ten\n").await?;
    let json = load.clone().header("format", "json").header("columns", "k, other, v = other, n = NULL");
    json.must_succeed("{\"k\": 11, \"other\": \"from other\", \"v\": \"unused\", \"n\": 1}\n").await?;
    let rows = cluster.sql().table("SELECT k, v, n FROM d.small ORDER BY k").await?;
    let wanted = [["2", "b", "2.00"], ["5", "e", "5.00"], ["10", "ten", "7.50"], ["11", "from other", "NULL"]];
    assert_eq!(rows, wanted);
    for (header, value, part) in [
        ("where", "k > n", "a value expected at 'n'"),
        ("where", "x = 1", "Unknown column 'x'"),
        ("where", "k = 'x'", "'x' is not a value of type int"),
        ("columns", "k, v, n = k + 1", "not expressions"),
        ("columns", "k, v, x = 1", "'x', which is no column of the table"),
    ] {
        let answer = load.clone().header(header, value).send("20|a|1\n").await?;
        assert_eq!(answer["Status"], "Fail", "{header}: {answer}");
        assert!(answer["Message"].as_str().unwrap_or_default().contains(part), "{header}: {answer}");
    }
    // Nothing chosen is nothing loaded.
    let answer = load.clone().header("where", "k < 0").must_succeed("20|a|1\n").await?;
    assert_eq!((&answer["NumberLoadedRows"], &answer["NumberUnselectedRows"]), (&0.into(), &1.into()), "{answer}");
    assert_eq!(cluster.sql().scalar("SELECT count(*) FROM d.small").await?, "4");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_process_says_that_it_is_well() -> Outcome {
    let cluster = Cluster::builder().backends(1).brokers(1).start().await?;
    for node in cluster.nodes() {
        let (status, text) = get(node, "/api/health").await?;
        assert!(status.is_success() && text.contains("ok"), "{}: {status} {text}", node.name);
        let (status, text) = get(node, "/metrics").await?;
        assert!(status.is_success() && text.contains("# TYPE"), "{}: {status} {text}", node.name);
    }
    Ok(())
}
