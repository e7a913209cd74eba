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

-- The 0.975 quantile of Student's t: half the width of a 95 % interval of a mean, in standard errors. A table up to 30
-- degrees of freedom, above it the expansion around the normal quantile (tests/test_break_even.py: seven digits). Null
-- below one: a single repeat says nothing about the spread.
create or replace macro t_quantile(freedom) as
    case
        when freedom < 1 then null
        when freedom <= 30 then list_extract([
            12.7062047, 4.3026527, 3.1824463, 2.7764451, 2.5705818, 2.4469119, 2.3646243, 2.3060041, 2.2621572,
            2.2281389, 2.2009852, 2.1788128, 2.1603687, 2.1447867, 2.1314495, 2.1199053, 2.1098156, 2.1009220,
            2.0930241, 2.0859634, 2.0796138, 2.0738731, 2.0686576, 2.0638986, 2.0595386, 2.0555294, 2.0518305,
            2.0484071, 2.0452296, 2.0422725
        ]::double[], freedom::integer)
        -- Abramowitz and Stegun 26.7.5, its polynomials in the normal quantile 1.9599640 already worked out.
        else 1.9599640 + 2.3722712 / freedom + 2.8224986 / freedom ** 2 + 2.5558497 / freedom ** 3
            + 1.5895341 / freedom ** 4
    end;

-- Half the width of the 95 % interval of a mean, from the standard deviation (n - 1) of its n repeats.
create or replace macro half_width(std, num_repeats) as t_quantile(num_repeats - 1) * std / sqrt(num_repeats);
