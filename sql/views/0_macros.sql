-- No rows: the only factor between joules and kilowatt-hours (greenml.units has its twin), and what counts as learning.
create or replace macro kwh(j) as j / 3.6e6;

-- What guessing would score: chance, or always naming the most frequent class; null where nobody said how many there are.
create or replace macro guessing(num_classes, majority_share) as
    if(num_classes is null, null, greatest(1 / num_classes, majority_share));

-- Three standard errors above guessing: what is more accurate has clearly learned.
create or replace macro learning_floor(num_samples, guessed) as
    guessed + 3 * sqrt(guessed * (1 - guessed) / num_samples);

create or replace macro clearly_learned(accuracy, num_samples, guessed) as
    coalesce(accuracy > learning_floor(num_samples, guessed), false);

-- Whether the power was read from a file (`--meter replay:FILE`): such joules are not the run's own. JSON is taken apart
-- only where the word is there at all: taking it apart in each of 10,000 runs would double the time of the leaderboard.
create or replace macro was_replayed(meter) as
    if(contains(meter::text, '"replayed"'), coalesce(meter ->> '$.replayed' = 'true', false), false);

-- Whether two means differ by no more than their repeats do (standard deviations, added in quadrature); null where one of
-- them is, as nobody knows the spread of one seed. The billionths: in binary, what is equal on paper is a little more.
create or replace macro within_spread(difference, a_std, b_std) as
    abs(difference) <= sqrt(a_std ** 2 + b_std ** 2) * (1 + 1e-9) + 1e-9;

-- Whoever tracks a program without a word on its data has not said that they are the data of others.
create or replace macro names_its_data(data_hash, dataset) as data_hash is not null or dataset <> 'unknown';

-- Processor and GPU by name: figures of one machine can be held against each other.
create or replace macro machine_of(hardware) as concat_ws(', ', hardware ->> '$.cpu', hardware ->> '$.gpu');
