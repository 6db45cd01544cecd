-- A school, as its office named things: mixed case, text keys, a person's name in two columns.
create table "Teachers" ("TeacherID" int primary key, "FirstName" text not null, "LastName" text not null);
create table "Students" (
    "StudentID" int primary key,
    "FirstName" text not null,
    "LastName" text not null,
    "Major" varchar(40) not null,
    "BirthDate" date,
    "Photo" bytea,
    "Languages" text[]
);
create table "Courses" (
    "Code" text primary key,
    "Title" text not null,
    "Credits" smallint not null,
    "TeacherID" int not null references "Teachers"
);
create table "Enrolments" (
    "ID" uuid primary key default gen_random_uuid(),
    "StudentID" int not null references "Students",
    "CourseCode" text not null references "Courses",
    "Semester" text not null,
    "EnrolledOn" date not null,
    unique ("StudentID", "CourseCode")
);
create table "Grades" (
    "ID" serial primary key,
    "EnrolmentID" uuid not null references "Enrolments",
    "Score" numeric(5, 2) not null,
    "GradedOn" date not null
);
create table "Salaries" ("TeacherID" int, "Amount" money);
create view "Honours" as select * from "Grades" where "Score" > 90;

insert into "Teachers"
select n, (array['Ada', 'Emmy', 'Marie'])[n], (array['Byron', 'Noether', 'Curie'])[n]
from generate_series(1, 3) n;
insert into "Students"
select n, 'First' || n, 'Last' || n, (array['Physics', 'History', 'Music'])[1 + n % 3], date '2004-01-01' + n, '\x00', '{en}'
from generate_series(1, 90) n;
insert into "Courses"
select 'C' || n, (array['Mechanics', 'Optics', 'Ancient Rome', 'Harmony', 'Algebra'])[n], 2 + n, 1 + n % 3
from generate_series(1, 5) n;
insert into "Enrolments" ("StudentID", "CourseCode", "Semester", "EnrolledOn")
select s, 'C' || c, case when s % 2 = 0 then 'Autumn' else 'Spring' end, date '2025-11-01' + s
from generate_series(1, 90) s, generate_series(1, 5) c
where (s + c) % 3 <> 0;
insert into "Grades" ("EnrolmentID", "Score", "GradedOn")
select e."ID", 50 + (e."StudentID" * 7 + ascii(substr(e."CourseCode", 2))) % 50, e."EnrolledOn" + 60
from "Enrolments" e;
