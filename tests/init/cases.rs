//! What is asked of each sample database, and the plain SQL on the source that answers it.

/// A question and the SQL on the source that answers it.
pub(super) type Case = (&'static str, &'static str);

pub(super) const SHOP: &[Case] = &[
    ("how many orders are there", "select count(*) from orders"),
    (
        "how many orders last month",
        "select count(*) from orders where placed_at >= '2026-02-01Z' and placed_at < '2026-03-01Z'",
    ),
    (
        "how many orders by country last month",
        "select c.country, count(*) from orders o join customers c on c.id = o.customer_id
         where placed_at >= '2026-02-01Z' and placed_at < '2026-03-01Z' group by 1",
    ),
    (
        "top 5 customers by amount",
        "select c.name, sum(total_amount) from orders o join customers c on c.id = o.customer_id
         group by 1 order by 2 desc limit 5",
    ),
    ("how many orders by status", "select status::text, count(*) from orders group by 1"),
    (
        "revenue of shipped orders by month",
        "select to_char(date_trunc('month', placed_at at time zone 'UTC'), 'YYYY-MM-DD'), sum(total_amount)
         from orders where status = 'shipped' group by 1",
    ),
    (
        "quantity by category",
        "select g.name, sum(quantity) from order_items i join products p on p.id = i.product_id
         join categories g on g.id = p.category_id group by 1",
    ),
    (
        "average unit price by category",
        "select g.name, avg(unit_price) from products p join categories g on g.id = p.category_id group by 1",
    ),
    ("how many customers in Germany", "select count(*) from customers where country = 'Germany'"),
    ("how many active customers", "select count(*) from customers where is_active"),
    (
        "average order value by country",
        "select c.country, avg(total_amount) from orders o join customers c on c.id = o.customer_id group by 1",
    ),
    (
        "customers by country",
        "select country, count(*) from customers group by 1",
    ),
    (
        "average order amount by channel in February 2026",
        "select channel, avg(total_amount) from orders
         where placed_at >= '2026-02-01Z' and placed_at < '2026-03-01Z' group by 1",
    ),
];

pub(super) const SCHOOL: &[Case] = &[
    ("how many students by major", "select \"Major\", count(*) from \"Students\" group by 1"),
    (
        "average score per course",
        "select c.\"Title\", avg(\"Score\") from \"Grades\" g join \"Enrolments\" e on e.\"ID\" = g.\"EnrolmentID\"
         join \"Courses\" c on c.\"Code\" = e.\"CourseCode\" group by 1",
    ),
    (
        "top 2 courses by average score",
        "select c.\"Title\", avg(\"Score\") from \"Grades\" g join \"Enrolments\" e on e.\"ID\" = g.\"EnrolmentID\"
         join \"Courses\" c on c.\"Code\" = e.\"CourseCode\" group by 1 order by 2 desc limit 2",
    ),
    (
        "average score per teacher",
        "select t.\"FirstName\" || ' ' || t.\"LastName\", avg(\"Score\")
         from \"Grades\" g join \"Enrolments\" e on e.\"ID\" = g.\"EnrolmentID\"
         join \"Courses\" c on c.\"Code\" = e.\"CourseCode\" join \"Teachers\" t using (\"TeacherID\") group by 1",
    ),
    (
        "how many enrolments in January 2026",
        "select count(*) from \"Enrolments\" where \"EnrolledOn\" between '2026-01-01' and '2026-01-31'",
    ),
    (
        "how many students per course",
        "select c.\"Title\", count(distinct \"StudentID\") from \"Enrolments\" e
         join \"Courses\" c on c.\"Code\" = e.\"CourseCode\" group by 1",
    ),
    (
        "average score in Mechanics",
        "select avg(\"Score\") from \"Grades\" g join \"Enrolments\" e on e.\"ID\" = g.\"EnrolmentID\"
         where e.\"CourseCode\" = 'C1'",
    ),
    ("how many students", "select count(*) from \"Students\""),
    ("how many enrolments by semester", "select \"Semester\", count(*) from \"Enrolments\" group by 1"),
    (
        "total credits by teacher",
        "select t.\"FirstName\" || ' ' || t.\"LastName\", sum(\"Credits\")
         from \"Courses\" c join \"Teachers\" t using (\"TeacherID\") group by 1",
    ),
    (
        "maximum score of physics students",
        "select max(\"Score\") from \"Grades\" g join \"Enrolments\" e on e.\"ID\" = g.\"EnrolmentID\"
         join \"Students\" s using (\"StudentID\") where \"Major\" = 'Physics'",
    ),
];

pub(super) const SENSORS: &[Case] = &[
    (
        "average temperature per sensor",
        "select s.name, avg(value) from temperature_readings r join sensors s on s.id = r.sensor_id group by 1",
    ),
    (
        "average temperature by site last week",
        "select t.name, avg(value) from temperature_readings r join sensors s on s.id = r.sensor_id
         join sites t on t.id = s.site_id where recorded_at >= '2026-03-23Z' and recorded_at < '2026-03-30Z' group by 1",
    ),
    (
        "maximum humidity yesterday",
        "select max(value) from humidity_readings where recorded_at >= '2026-03-30Z' and recorded_at < '2026-03-31Z'",
    ),
    ("how many temperature alarms by severity", "select severity, count(*) from temperature_alarms group by 1"),
    (
        "top 3 sensors by pressure",
        "select s.name, avg(value) from pressure_readings r join sensors s on s.id = r.sensor_id
         group by 1 order by 2 desc limit 3",
    ),
    (
        "average humidity in Hamburg",
        "select avg(value) from humidity_readings r join sensors s on s.id = r.sensor_id
         join sites t on t.id = s.site_id where t.name = 'Hamburg'",
    ),
    (
        "how many sensors per site",
        "select t.name, count(*) from sensors s join sites t on t.id = s.site_id group by 1",
    ),
    (
        "average noise by day in March 2026",
        "select to_char(date_trunc('day', recorded_at at time zone 'UTC'), 'YYYY-MM-DD'), avg(value)
         from noise_readings where recorded_at >= '2026-03-01Z' and recorded_at < '2026-04-01Z' group by 1",
    ),
    (
        "how many high vibration alarms",
        "select count(*) from vibration_alarms where severity = 'high'",
    ),
    ("how many sites", "select count(*) from sites"),
];

#[rustfmt::skip]
const KINDS: [&str; 16] = [
    "temperature", "humidity", "pressure", "noise", "vibration", "current", "voltage", "flow",
    "torque", "illuminance", "dust", "ozone", "methane", "wind", "rainfall", "acidity",
];

/// 50 tables: sites, sensors, and per kind its readings, alarms and calibrations. No foreign key is
/// declared on the readings: the names say it.
pub(super) fn sensors() -> String {
    let mut sql = "create table sites (id int primary key, name text not null);
        create table sensors (id int primary key, name text not null, site_id int not null references sites);
        insert into sites values (1, 'Hamburg'), (2, 'Bremen');
        insert into sensors select n, 'Probe ' || chr(64 + n), 1 + n % 2 from generate_series(1, 6) n;"
        .to_owned();
    for (at, kind) in KINDS.iter().enumerate() {
        sql.push_str(&format!(
            "create table {kind}_readings (id bigint generated always as identity primary key,
               sensor_id int not null, recorded_at timestamptz not null, value double precision);
             create table {kind}_alarms (id serial primary key, sensor_id int not null references sensors,
               severity text not null, raised_at timestamptz not null);
             create table {kind}_calibrations (id serial primary key, sensor_id int references sensors,
               drift numeric, calibrated_on date);
             insert into {kind}_readings (sensor_id, recorded_at, value)
               select 1 + n % 6, timestamptz '2026-02-20Z' + n * interval '1 hour', (n * {m}) % 97 + 0.5
               from generate_series(1, 930) n;
             insert into {kind}_alarms (sensor_id, severity, raised_at)
               select 1 + n % 6, (array['low', 'medium', 'high'])[1 + n % 3], timestamptz '2026-03-01Z' + n * interval '7 hours'
               from generate_series(1, 40 + {at}) n;",
            m = 3 + at
        ));
    }
    sql
}

pub(super) const ODD: &[Case] = &[
    (
        "total seats by destination city",
        "select city, sum(seats) from flights f join airports a on a.code = f.destination_code group by 1",
    ),
    (
        "how many flights by origin",
        "select origin_code, count(*) from flights group by 1",
    ),
    (
        "how many events by kind",
        "select kind, count(*) from events group by 1",
    ),
    (
        "average height",
        "select avg(height_m) from \"Other Schema\".tree",
    ),
    ("total gross", "select sum(gross) from generated"),
    ("average c of composites", "select avg(c) from composite"),
    ("how many empty ones", "select count(*) from empty_one"),
    ("how many no keys", "select count(*) from no_key"),
];
